//! The relay: the program that scripts find in place of one that is done outside of them.
//!
//! Compiled alone by `build.rs`, for the machine that builds: it runs in the image's root, where no library of the
//! host is, so it has none. It sends its arguments, environment and working directory over a socket and does what it
//! is answered; `src/sandbox/relay.rs` has the other side and describes the messages.
//!
//! When nobody answers it ends with status 126, as a shell does for what cannot be run.

#![no_std]
#![no_main]

use core::arch::{asm, global_asm};
use core::ptr::{addr_of_mut, null};

/// Where the socket is, in a job.
const SOCKET: &[u8] = b"/dev/build-images/socket\0";
/// The mask of file modes that dpkg sets for scripts.
const USUAL_MASK: usize = 0o022;
/// Longest message, in bytes.
const LONGEST: usize = 256 << 10;
/// Most arguments and most variables of a program that is started.
const MOST: usize = 4096;

static mut MESSAGE: [u8; LONGEST] = [0; LONGEST];
static mut LIST: [*const u8; MOST] = [null(); MOST];
static mut VARIABLES: [*const u8; MOST] = [null(); MOST];

#[cfg(target_arch = "x86_64")]
mod number {
    pub const READ: usize = 0;
    pub const WRITE: usize = 1;
    pub const CLOSE: usize = 3;
    pub const DUP3: usize = 292;
    pub const SOCKET: usize = 41;
    pub const CONNECT: usize = 42;
    pub const SENDMSG: usize = 46;
    pub const SOCKETPAIR: usize = 53;
    pub const CLONE: usize = 56;
    pub const EXECVE: usize = 59;
    pub const WAIT4: usize = 61;
    pub const GETCWD: usize = 79;
    pub const UMASK: usize = 95;
    pub const EXIT_GROUP: usize = 231;
}

#[cfg(target_arch = "aarch64")]
mod number {
    pub const READ: usize = 63;
    pub const WRITE: usize = 64;
    pub const CLOSE: usize = 57;
    pub const DUP3: usize = 24;
    pub const SOCKET: usize = 198;
    pub const CONNECT: usize = 203;
    pub const SENDMSG: usize = 211;
    pub const SOCKETPAIR: usize = 199;
    pub const CLONE: usize = 220;
    pub const EXECVE: usize = 221;
    pub const WAIT4: usize = 260;
    pub const GETCWD: usize = 17;
    pub const UMASK: usize = 166;
    pub const EXIT_GROUP: usize = 94;
}

#[cfg(target_arch = "x86_64")]
global_asm!(".globl _start", "_start:", "mov rdi, rsp", "and rsp, -16", "call {main}", "ud2", main = sym main);
#[cfg(target_arch = "aarch64")]
global_asm!(".globl _start", "_start:", "mov x0, sp", "bl {main}", "brk 1", main = sym main);

#[cfg(target_arch = "x86_64")]
fn call(number: usize, arguments: [usize; 5]) -> isize {
    let result: isize;
    // SAFETY: each caller passes what the call of that number takes.
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => result, in("rdi") arguments[0], in("rsi") arguments[1],
            in("rdx") arguments[2], in("r10") arguments[3], in("r8") arguments[4], lateout("rcx") _, lateout("r11") _);
    }
    result
}

#[cfg(target_arch = "aarch64")]
fn call(number: usize, arguments: [usize; 5]) -> isize {
    let result: isize;
    // SAFETY: each caller passes what the call of that number takes.
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") arguments[0] as isize => result, in("x1") arguments[1],
            in("x2") arguments[2], in("x3") arguments[3], in("x4") arguments[4]);
    }
    result
}

fn exit(status: usize) -> ! {
    loop {
        call(number::EXIT_GROUP, [status, 0, 0, 0, 0]);
    }
}

/// Not run, or nobody to ask.
fn give_up() -> ! {
    exit(126)
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    give_up()
}

fn write_all(descriptor: usize, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let written = call(number::WRITE, [descriptor, bytes.as_ptr() as usize, bytes.len(), 0, 0]);
        match written {
            -4 => {}
            1.. => bytes = &bytes[written as usize..],
            // What reads this may have gone; the program would have been told so and gone on.
            _ => return,
        }
    }
}

fn read_exactly(descriptor: usize, bytes: &mut [u8]) {
    let mut done = 0;
    while done < bytes.len() {
        let rest = &mut bytes[done..];
        match call(number::READ, [descriptor, rest.as_mut_ptr() as usize, rest.len(), 0, 0]) {
            -4 => {}
            read @ 1.. => done += read as usize,
            _ => give_up(),
        }
    }
}

fn connect() -> usize {
    // A socket of the Unix domain for a stream, closed on exec.
    let socket = call(number::SOCKET, [1, 1 | 0o2_000_000, 0, 0, 0]);
    let mut address = [0u8; 110];
    address[0] = 1;
    address[2..2 + SOCKET.len()].copy_from_slice(SOCKET);
    let length = 2 + SOCKET.len();
    if socket < 0 || call(number::CONNECT, [socket as usize, address.as_ptr() as usize, length, 0, 0]) < 0 {
        give_up();
    }
    socket as usize
}

/// Fills the message with strings, each ended by a zero byte.
struct Filler<'a> {
    bytes: &'a mut [u8],
    length: usize,
    fits: bool,
}

impl Filler<'_> {
    /// Appends a C string.
    fn push(&mut self, mut string: *const u8) {
        loop {
            if self.length == self.bytes.len() {
                self.fits = false;
                return;
            }
            // SAFETY: the string is one that the kernel put on the stack, ended by a zero byte.
            let byte = unsafe { *string };
            self.bytes[self.length] = byte;
            self.length += 1;
            if byte == 0 {
                return;
            }
            // SAFETY: not past the zero byte.
            string = unsafe { string.add(1) };
        }
    }

    /// Appends all of a list that ends with a null pointer; how many there were.
    fn push_all(&mut self, mut list: *const *const u8) -> u32 {
        let mut count = 0;
        // SAFETY: the lists that the kernel makes end with a null pointer.
        unsafe {
            while !(*list).is_null() {
                self.push(*list);
                list = list.add(1);
                count += 1;
            }
        }
        count
    }
}

extern "C" fn main(stack: *const usize) -> ! {
    // SAFETY: what the kernel puts there: a count, the arguments, null, the environment, null.
    let (arguments, environment) = unsafe {
        let count = *stack;
        (stack.add(1).cast::<*const u8>(), stack.add(count + 2).cast::<*const u8>())
    };
    // SAFETY: there is one thread, and nobody else has a reference.
    let message = unsafe { &mut *addr_of_mut!(MESSAGE) };
    let socket = connect();
    ask(socket, arguments, environment, message);
    loop {
        let mut header = [0; 5];
        read_exactly(socket, &mut header);
        let length = u32::from_le_bytes([header[1], header[2], header[3], header[4]]) as usize;
        let Some(body) = message.get_mut(..length) else { give_up() };
        read_exactly(socket, body);
        match header[0] {
            b'1' => write_all(1, body),
            b'2' => write_all(2, body),
            b'X' => exit(usize::from(body.first().copied().unwrap_or(126))),
            b'R' => {
                call(
                    number::EXECVE,
                    [body.as_ptr() as usize, arguments as usize, environment as usize, 0, 0],
                );
                give_up();
            }
            b'S' => start(socket, body, environment),
            b'W' => {
                let mut status = 0i32;
                while call(number::WAIT4, [usize::MAX, addr_of_mut!(status) as usize, 0, 0, 0]) == -4 {}
                write_all(socket, &status.to_le_bytes());
            }
            _ => give_up(),
        }
    }
}

/// Sends the call: length, number of arguments, number of variables; the strings; last the working directory.
fn ask(
    socket: usize,
    arguments: *const *const u8,
    environment: *const *const u8,
    message: &mut [u8; LONGEST],
) {
    let mut filler = Filler { bytes: &mut message[12..], length: 0, fits: true };
    let (mut count, mut variables) = (filler.push_all(arguments), filler.push_all(environment));
    let mut length = filler.length;
    let mut directory = 0;
    // Whoever answers makes files as with the usual mask; a caller that has another one gets the real program.
    let mask = call(number::UMASK, [USUAL_MASK, 0, 0, 0, 0]) as usize;
    if mask != USUAL_MASK {
        call(number::UMASK, [mask, 0, 0, 0, 0]);
    }
    if filler.fits && mask == USUAL_MASK {
        let rest = &mut filler.bytes[length..];
        directory = call(number::GETCWD, [rest.as_mut_ptr() as usize, rest.len(), 0, 0, 0]);
    }
    if directory > 0 {
        length += directory as usize;
    } else {
        // Too long to send, nowhere, or unusual: only the name, to be told where the real program is.
        let mut filler = Filler { bytes: &mut message[12..], length: 0, fits: true };
        // SAFETY: the kernel gives at least one argument; a caller that gave none gets an empty one.
        filler.push(unsafe { *arguments });
        (length, count, variables) = (filler.length, 1, u32::MAX);
    }
    for (index, number) in [length as u32, count, variables].into_iter().enumerate() {
        message[index * 4..index * 4 + 4].copy_from_slice(&number.to_le_bytes());
    }
    write_all(socket, &message[..12 + length]);
}

/// Starts a program, its standard input and output on a new socket whose other end is sent back.
///
/// The body: the number of variables as four bytes, then strings ended by zero bytes: the variables, the program, its
/// arguments beginning with its name.
fn start(socket: usize, body: &mut [u8], environment: *const *const u8) {
    let mut pair = [0i32; 2];
    let kind = 1 | 0o2_000_000;
    if body.len() < 4 || call(number::SOCKETPAIR, [1, kind, 0, addr_of_mut!(pair) as usize, 0]) < 0 {
        give_up();
    }
    // SAFETY: there is one thread, and nobody else has a reference.
    let (list, variables) = unsafe { (&mut *addr_of_mut!(LIST), &mut *addr_of_mut!(VARIABLES)) };
    let added = u32::from_le_bytes([body[0], body[1], body[2], body[3]]) as usize;
    let strings = body[4..].split_inclusive(|byte| *byte == 0);
    let mut count = 0;
    let (mut place, mut program) = (0, null());
    for (index, string) in strings.enumerate() {
        if index < added {
            variables[count % MOST] = string.as_ptr();
            count += 1;
        } else if index == added {
            program = string.as_ptr();
        } else {
            list[place % MOST] = string.as_ptr();
            place += 1;
        }
    }
    let mut old = environment;
    // SAFETY: as in `push_all`.
    unsafe {
        while !(*old).is_null() {
            variables[count % MOST] = *old;
            old = old.add(1);
            count += 1;
        }
    }
    if place == 0 || place >= MOST || count >= MOST {
        give_up();
    }
    list[place] = null();
    variables[count] = null();
    // SIGCHLD; the memory is copied.
    match call(number::CLONE, [17, 0, 0, 0, 0]) {
        0 => {
            for descriptor in [0, 1] {
                call(number::DUP3, [pair[1] as usize, descriptor, 0, 0, 0]);
            }
            let (list, variables) = (list.as_ptr() as usize, variables.as_ptr() as usize);
            call(number::EXECVE, [program as usize, list, variables, 0, 0]);
            give_up();
        }
        1.. => {}
        _ => give_up(),
    }
    call(number::CLOSE, [pair[1] as usize, 0, 0, 0, 0]);
    send_descriptor(socket, pair[0]);
    call(number::CLOSE, [pair[0] as usize, 0, 0, 0, 0]);
}

#[repr(C)]
struct Vector {
    base: *const u8,
    length: usize,
}

/// `cmsghdr` with one descriptor, padded to its alignment.
#[repr(C)]
struct Control {
    length: usize,
    level: i32,
    kind: i32,
    descriptor: i32,
    padding: i32,
}

/// `msghdr`.
#[repr(C)]
struct Header {
    name: *const u8,
    name_length: u32,
    vectors: *const Vector,
    vector_count: usize,
    control: *const Control,
    control_length: usize,
    flags: i32,
}

fn send_descriptor(socket: usize, descriptor: i32) {
    let vector = Vector { base: b"F".as_ptr(), length: 1 };
    // SOL_SOCKET and SCM_RIGHTS; the length leaves out the padding.
    let control = Control { length: 20, level: 1, kind: 1, descriptor, padding: 0 };
    let header = Header {
        name: null(),
        name_length: 0,
        vectors: &vector,
        vector_count: 1,
        control: &control,
        control_length: 24,
        flags: 0,
    };
    if call(number::SENDMSG, [socket, &raw const header as usize, 0, 0, 0]) < 0 {
        give_up();
    }
}

// The compiler makes calls to these out of loops and copies.

#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(target: *mut u8, source: *const u8, length: usize) -> *mut u8 {
    for index in 0..length {
        // SAFETY: the caller's promise. Volatile, or the loop would become a call to this function.
        unsafe { target.add(index).write_volatile(source.add(index).read()) };
    }
    target
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memset(target: *mut u8, value: i32, length: usize) -> *mut u8 {
    for index in 0..length {
        // SAFETY: as above.
        unsafe { target.add(index).write_volatile(value as u8) };
    }
    target
}

/// The library of the language names it where a panic could unwind; here none does.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}
