//! Formats, replies and refusals, without Debian's debconf.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread::JoinHandle;

use super::*;

const SHIPPED_CONFIGURATION: &str = "# Comment.\n\n# Another.\nConfig: configdb\n# In between.\nTemplates: templatedb\n\n\
    Name: config\nDriver: File\nMode: 644\nReject-Type: password\nFilename: /var/cache/debconf/config.dat\n\n\
    Name: passwords\nDriver: File\nMode: 600\nBackup: false\nRequired: false\nAccept-Type: password\n\
    Filename: /var/cache/debconf/passwords.dat\n\n\
    Name: configdb\nDriver: Stack\nStack: config, passwords\n\n\
    Name: templatedb\nDriver: File\nMode: 644\nFilename: /var/cache/debconf/templates.dat\n\n# The end.\n";

/// A root with a package `p` and debconf's configuration.
fn image() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    for path in ["etc", "root", "usr/bin", "var/cache/debconf", "var/lib/dpkg/info"] {
        fs::create_dir_all(root.join(path)).unwrap();
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
    fs::write(root.join("etc/debconf.conf"), SHIPPED_CONFIGURATION).unwrap();
    fs::write(root.join("var/lib/dpkg/info/p.templates"), TEMPLATES_OF_P).unwrap();
    directory
}

const TEMPLATES_OF_P: &str = "Template: p/q\nType: string\nDefault: d\nDescription: A question\n More of it.\n\n\
    Template: p/secret\nType: password\nDescription: A secret\n";

fn call(arguments: &[&str]) -> Call {
    let environment = [
        ("PATH", "/usr/bin"),
        ("LC_ALL", "C.UTF-8"),
        ("DEBIAN_FRONTEND", "noninteractive"),
        ("DEBCONF_NONINTERACTIVE_SEEN", "true"),
        ("PERL_DL_NONLAZY", "1"),
    ];
    Call {
        program: "frontend".into(),
        arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
        environment: environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        directory: "/".into(),
    }
}

const POSTINST: &[&str] = &["/var/lib/dpkg/info/p.postinst", "configure", ""];

fn open(root: &Path) -> Root {
    Root::new(rustix::fs::open(root, rustix::fs::OFlags::DIRECTORY, rustix::fs::Mode::empty()).unwrap())
        .unwrap()
}

fn known() -> Debconf {
    Debconf { is_known: AtomicBool::new(true), ..Debconf::default() }
}

/// A script that says lines and hears replies.
#[derive(Default)]
struct Script {
    lines: Vec<u8>,
    status: u8,
    started: Vec<String>,
    running: Option<JoinHandle<Vec<String>>>,
    heard: Vec<String>,
    written: Vec<u8>,
}

impl Script {
    fn of(lines: &str) -> Self {
        Self { lines: lines.into(), ..Self::default() }
    }
}

impl Peer for Script {
    fn start(
        &mut self,
        program: &str,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> io::Result<UnixStream> {
        assert_eq!(environment, [("DEBIAN_HAS_FRONTEND", "1")]);
        self.started.push([&[program], arguments].concat().join(" "));
        let (ours, theirs) = UnixStream::pair()?;
        let lines = self.lines.clone();
        self.running = Some(std::thread::spawn(move || {
            let mut replies = BufReader::new(theirs.try_clone().unwrap());
            let mut heard = Vec::new();
            for line in lines.split_inclusive(|byte| *byte == b'\n') {
                let mut reply = String::new();
                if (&theirs).write_all(line).is_err() || !line.ends_with(b"\n") {
                    break;
                }
                if replies.read_line(&mut reply).is_err() {
                    break;
                }
                heard.push(reply);
            }
            theirs.shutdown(std::net::Shutdown::Write).unwrap();
            let mut rest = String::new();
            let _ = replies.read_to_string(&mut rest);
            heard
        }));
        Ok(ours)
    }

    fn wait(&mut self) -> io::Result<u8> {
        // The stream is still open here; the thread ends when the call does.
        Ok(self.status)
    }

    fn write(&mut self, _: u8, bytes: &[u8]) -> io::Result<()> {
        self.written.extend(bytes);
        Ok(())
    }
}

fn talk(root: &Path, arguments: &[&str], script: &mut Script) -> Answer {
    let answer = known().frontend(&call(arguments), &open(root), script);
    script.heard = script.running.take().map(|thread| thread.join().unwrap()).unwrap_or_default();
    answer
}

/// All files of debconf's, with their modes.
fn databases(root: &Path) -> String {
    let mut entries: Vec<_> =
        fs::read_dir(root.join("var/cache/debconf")).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    let show = |path: &std::path::PathBuf| {
        let mode = fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        format!("== {name} {mode:o}\n{}", fs::read_to_string(path).unwrap())
    };
    entries.iter().map(show).collect()
}

#[test]
fn stanzas_are_read_and_written() {
    for stanza in [
        "Name: a\n",
        "Name: a b\nType: \nOwners: p\n",
        "Name: a\nDefault: x\\ny\nDescription:  two\nDescription-de.utf-8: ü: x\nOwners: p, q,r\nFlags: seen\n",
        "Name: a\nOwners: , p\nVariables:\n a = b = c\n b = \n c d =  x\n",
        "Name: a\nValue: \\\\n\n",
    ] {
        assert_eq!(format::name(stanza.as_bytes()), Some(&stanza.as_bytes()[6..stanza.find('\n').unwrap()]));
        let (mut written, item) = (Vec::new(), format::read(stanza.as_bytes()).unwrap());
        format::write(format::name(stanza.as_bytes()).unwrap(), &item, &mut written);
        assert_eq!(String::from_utf8(written).unwrap(), format!("{stanza}\n"));
    }
}

#[test]
fn what_debconf_would_write_in_another_way_is_not_taken() {
    for stanza in [
        "",
        "Name: \n",
        "name: a\n",
        "Name: a",
        "Template: a\nName: a\n",
        "Name: a\nowners: p\n",
        "Name: a\nOwners: \n",
        "Name: a\nOwners: q, p\n",
        "Name: a\nOwners: p, p\n",
        "Name: a\nOwners: p,  q\n",
        "Name: a\nOwners: p,\tq\n",
        "Name: a\nOwners: p, \n",
        "Name: a\nFlags: seen\nOwners: p\n",
        "Name: a\nFlags: z, a\n",
        "Name: a\nType: x\nDefault: y\n",
        "Name: a\nType: x\nType: y\n",
        "Name: a\nTYPE: x\n",
        "Name: a\nType:x\n",
        "Name: a\nno colon\n",
        "Name: a\nVariables:\n",
        "Name: a\nVariables:\n b = x\n a = x\n",
        "Name: a\nVariables:\n  a = x\n",
        "Name: a\nVariables:\n a=x\n",
        "Name: a\nVariables:\n a  = x\n",
        "Name: a\nVariables:\n a = x\nOwners: p\n",
    ] {
        assert_eq!(format::name(stanza.as_bytes()), None, "{stanza:?}");
    }
}

#[test]
fn templates_are_parsed() {
    let text = "Template: a/b\nType: select  \nChoices: x, y\nDefault:  z\nDescription: Short \n First line\n  continued\n \
                verbatim\n .\n   deeper  \n Last\nDescription-pt_BR.UTF-8: Curto\n\n\nTemplate: c\nType: note\nWhat: x\n";
    insta::assert_snapshot!(shown(text), @r#"
    a/b (select)
      choices: "x, y"
      default: " z"
      description: "Short"
      description-pt_br.utf-8: "Curto"
      extended_description: "First line\n continued\nverbatim\n\n  deeper\nLast"
      type: "select"
    c (note)
      type: "note"
      what: "x"
      said "Unknown template field 'what', in stanza #2 of FILE\n"
    "#);
}

#[test]
fn wrong_templates_are_refused() {
    let wrong = [
        "Type: x\n",
        "Template: 0\nType: x\n",
        "Template: a\nType: x\nType: y\n",
        "Template: a\nnonsense\n",
        "Template: a\nType: x\n\n\n\n\n",
    ];
    insta::assert_snapshot!(wrong.map(shown).join(""), @r#"
    Template #1 in FILE does not contain a 'Template:' line

    Template #1 in FILE does not contain a 'Template:' line

    Template #1 in FILE has a duplicate field "type" with new value "y". Probably two templates are not properly separated by a lone newline.

    Template parse error near `nonsense', in stanza #1 of FILE

    a (x)
      type: "x"
    Template #2 in FILE does not contain a 'Template:' line
    "#);
}

fn shown(text: &str) -> String {
    let (templates, ended) = templates::parse(text.as_bytes(), "FILE");
    let mut out = String::new();
    let lossy = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
    for template in templates {
        out += &format!("{} ({})\n", lossy(&template.name), lossy(&template.kind));
        for (field, value) in &template.fields {
            out += &format!("  {}: {:?}\n", lossy(field), lossy(value));
        }
        template.said.iter().for_each(|said| out += &format!("  said {:?}\n", lossy(said)));
    }
    ended.map_or_else(|died| format!("{out}{died}\n"), |()| out.clone())
}

#[test]
fn lists_are_split() {
    let split =
        |text: &str| store::split(text.as_bytes()).into_iter().map(|item| String::from_utf8(item).unwrap());
    assert_eq!(split("a, b,c,  d").collect::<Vec<_>>(), ["a", "b,c", "d"]);
    assert_eq!(split(r"a\, b, c\ d, \e").collect::<Vec<_>>(), ["a, b", "c d", r"\e"]);
    assert_eq!(split(", a, ").collect::<Vec<_>>(), ["", "a"]);
    assert_eq!(split("").count(), 0);
}

#[test]
fn a_call_fills_the_databases() {
    let image = image();
    let mut script = Script::of(
        "INPUT high p/q\nGO\nGET p/q\nSET p/q a value\nSET p/secret hidden\nSUBST p/q who me\nCAPB escape\n\
         what\\nis that\nGET p/secret\n",
    );
    assert_eq!(talk(image.path(), POSTINST, &mut script), Answer::success());
    assert_eq!(script.started, ["/var/lib/dpkg/info/p.postinst configure "]);
    // What cannot be known has the line as it is, with the words of a script that escapes.
    let heard = "30 question skipped\n0 ok\n0 d\n0 value set\n0 value set\n0\n0 multiselect escape \n\
                 20 Unsupported command \"what\nis\" (full line was \"what\\nis that\") received from confmodule.\n";
    assert_eq!(script.heard.concat(), heard);
    insta::assert_snapshot!(databases(image.path()), @"
    == config.dat 644
    Name: p/q
    Template: p/q
    Value: a value
    Owners: p
    Flags: seen
    Variables:
     who = me

    == passwords.dat 600
    Name: p/secret
    Template: p/secret
    Value: hidden
    Owners: p

    == templates.dat 644
    Name: p/q
    Default: d
    Description: A question
    Extended_description: More of it.
    Type: string
    Owners: p/q

    Name: p/secret
    Description: A secret
    Type: password
    Owners: p/secret
    ");
    // Templates are loaded anew each time; a package that goes takes everything along.
    let mut script = Script::of("GET p/q\nPURGE\nEXIST p/q\n");
    assert_eq!(talk(image.path(), &["/var/lib/dpkg/info/p.postrm", "purge"], &mut script), Answer::success());
    assert_eq!(script.heard.concat(), "0 a value\n0\n0 false\n");
    let after = databases(image.path());
    assert!(after.contains("== config.dat 644\n== config.dat-old 644\nName: p/q\n"), "{after}");
    assert!(
        after.contains("== passwords.dat 600\n== templates.dat 644\n== templates.dat-old 644\n"),
        "{after}"
    );
}

#[test]
fn the_configuration_runs_first_and_ends_everything_when_it_fails() {
    let image = image();
    fs::write(image.path().join("var/lib/dpkg/info/p.config"), "").unwrap();
    let mut script = Script { status: 3, ..Script::of("SET p/q x\n") };
    assert_eq!(talk(image.path(), POSTINST, &mut script), Answer::status(3));
    assert_eq!(script.started, ["/var/lib/dpkg/info/p.config configure "]);
    insta::assert_snapshot!(databases(image.path()), @"
    == config.dat 644
    == passwords.dat 600
    == templates.dat 644
    ");
    let mut script = Script::of("SET p/q x\n");
    assert_eq!(
        talk(image.path(), &["/var/lib/dpkg/info/p.postinst", "configure", "1.0"], &mut script),
        Answer::success()
    );
    let expected =
        ["/var/lib/dpkg/info/p.config configure 1.0", "/var/lib/dpkg/info/p.postinst configure 1.0"];
    assert_eq!(script.started, expected);
}

#[test]
fn what_is_kept_is_not_trusted_when_the_file_is_another() {
    let image = image();
    let debconf = known();
    let config = image.path().join("var/cache/debconf/config.dat");
    for (lines, value) in [("SET p/q one\n", "one"), ("SET p/q two\n", "two")] {
        let mut script = Script::of(lines);
        let call = call(POSTINST);
        assert_eq!(debconf.frontend(&call, &open(image.path()), &mut script), Answer::success());
        assert!(fs::read_to_string(&config).unwrap().contains(&format!("Value: {value}\n")));
        // Somebody else's change of the same length, in the same file.
        let text = fs::read_to_string(&config).unwrap().replace(&format!("Value: {value}"), "Value: new");
        fs::write(&config, text).unwrap();
        let mut script = Script::of("GET p/q\n");
        assert_eq!(debconf.frontend(&call, &open(image.path()), &mut script), Answer::success());
        assert_eq!(script.running.take().unwrap().join().unwrap(), ["0 new\n"]);
    }
}

#[test]
fn too_long_a_line_ends_it_without_saving() {
    let image = image();
    let long = format!("SET p/q {}\n", "x".repeat(1 << 20));
    let Answer::Done(output) = talk(image.path(), POSTINST, &mut Script::of(&long)) else {
        panic!("declined")
    };
    assert_ne!(output.status, 0);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("a line of more than 1048576 bytes"), "{said}");
    assert!(!databases(image.path()).contains("Name:"));
}

/// Changes one thing and sees that the call is declined and nothing has happened.
fn declined(what: &str, change: impl FnOnce(&Path, &mut Call)) {
    let image = image();
    let mut call = call(POSTINST);
    change(image.path(), &mut call);
    let before = databases(image.path());
    let mut script = Script::of("");
    assert_eq!(known().frontend(&call, &open(image.path()), &mut script), Answer::Decline, "{what}");
    assert!(script.started.is_empty(), "{what}");
    assert_eq!(databases(image.path()), before, "{what}");
}

#[test]
fn what_is_not_understood_is_declined() {
    let set = |name: &'static str, value: &'static str| {
        move |_: &Path, call: &mut Call| drop(call.environment.insert(name.into(), value.into()))
    };
    for (name, value) in [
        ("DEBIAN_FRONTEND", "readline"),
        ("DEBIAN_FRONTEND", "Noninteractive"),
        ("DEBCONF_DEBUG", "developer"),
        ("DEBCONF_DB_OVERRIDE", "File{/tmp/x}"),
        ("DEBCONF_DB_REPLACE", "Pipe"),
        ("DEBCONF_DB_FALLBACK", "Pipe"),
        ("DEBCONF_SYSTEMRC", "/etc/x"),
        ("DEBCONF_ADMIN_EMAIL", "x"),
        ("DEBCONF_C_VALUES", "true"),
        ("DEBCONF_USE_CDEBCONF", "1"),
        ("DPKG_ROOT", "/target"),
        ("LC_ALL", "de_DE.UTF-8"),
        ("LANGUAGE", "de"),
        ("PERL5LIB", "/opt"),
        ("PATH", "/usr/bin:."),
    ] {
        declined(name, set(name, value));
    }
    declined("no locale of messages", |_, call| {
        call.environment.remove("LC_ALL");
        call.environment.insert("LC_MESSAGES".into(), "de_DE.UTF-8".into());
    });
    declined("no script", |_, call| call.arguments.clear());
    declined("a relative script", |_, call| call.arguments = vec!["p.postinst".into()]);
    let write = |path: &'static str, text: &'static str| {
        move |root: &Path, _: &mut Call| fs::write(root.join(path), text).unwrap()
    };
    declined("~/.debconfrc", write("root/.debconfrc", ""));
    declined("mail", write("usr/bin/mail", ""));
    declined("Text::Iconv", write("var/lib/dpkg/info/libtext-iconv-perl.list", ""));
    declined("a setting", |root, _| {
        let text = SHIPPED_CONFIGURATION.replace("Config: configdb", "Config: configdb\nPriority: low");
        fs::write(root.join("etc/debconf.conf"), text).unwrap();
    });
    declined("another mode", |root, _| {
        fs::write(root.join("etc/debconf.conf"), SHIPPED_CONFIGURATION.replace("644", "640")).unwrap();
    });
    declined("no configuration", |root, _| fs::remove_file(root.join("etc/debconf.conf")).unwrap());
    declined("a half database", write("var/cache/debconf/config.dat", "Name: a\nOwners: p\n"));
    declined("a database out of order", write("var/cache/debconf/config.dat", "Name: b\n\nName: a\n\n"));
    declined("two of a name", write("var/cache/debconf/templates.dat", "Name: b\n\nName: b\n\n"));
    declined("a write cut off", write("var/cache/debconf/config.dat-new", ""));
    declined("a link", |root, _| symlink("/etc/passwd", root.join("var/cache/debconf/config.dat")).unwrap());
    declined("no templates", write("var/lib/dpkg/info/p.templates", "nonsense\n"));
    declined("no type", write("var/lib/dpkg/info/p.templates", "Template: p/q\nDescription: x\n"));
    declined(
        "a method",
        write("var/lib/dpkg/info/p.templates", "Template: p/q\nType: string\nClearall: x\n"),
    );
    declined("no package", |root, call| {
        fs::create_dir(root.join("var/lib/dpkg/tmp.ci")).unwrap();
        fs::write(root.join("var/lib/dpkg/tmp.ci/control"), "Version: 1\n").unwrap();
        call.arguments = vec!["/var/lib/dpkg/tmp.ci/preinst".into(), "install".into()];
    });
}

#[test]
fn another_debconf_is_declined() {
    let image = image();
    let mut script = Script::of("");
    let answer = Debconf::default().frontend(&call(POSTINST), &open(image.path()), &mut script);
    assert_eq!(answer, Answer::Decline);
    assert_eq!(databases(image.path()), "");
}

#[test]
fn a_database_in_use_is_declined() {
    let image = image();
    let file = fs::File::create(image.path().join("var/cache/debconf/templates.dat")).unwrap();
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let answer = known().frontend(&call(POSTINST), &open(image.path()), &mut Script::of(""));
    assert_eq!(answer, Answer::Decline);
}

#[test]
fn packages_are_known_by_their_script() {
    let image = image();
    let root = open(image.path());
    let package = |arguments: &[&str], set: Option<(&str, &str)>| {
        let mut call = call(arguments);
        set.map(|(name, value)| call.environment.insert(name.into(), value.into()));
        let wanted = Wanted::of(&call, &root).unwrap();
        let text = |bytes: &Bytes| String::from_utf8(bytes.clone()).unwrap();
        (text(&wanted.package), text(&wanted.title))
    };
    let both = |package: &str, title: &str| (package.to_owned(), title.to_owned());
    assert_eq!(package(POSTINST, None), both("p", "Configuring p"));
    assert_eq!(package(&["/x/a:b.c.prerm"], None), both("a:b.c", "Configuring a:b.c"));
    assert_eq!(package(&["--", "/x/p.postinst", "triggered"], None), both("p", ""));
    assert_eq!(package(POSTINST, Some(("DEBCONF_PACKAGE", "q"))), both("q", "Configuring q"));
    assert_eq!(package(&["/usr/sbin/pam-auth-update"], None), both("", ""));
    fs::create_dir(image.path().join("var/lib/dpkg/tmp.ci")).unwrap();
    fs::write(image.path().join("var/lib/dpkg/tmp.ci/control"), "Source: s\nPackage: new\n").unwrap();
    root.forget();
    assert_eq!(package(&["/var/lib/dpkg/tmp.ci/preinst"], None), both("new", "Configuring new"));
    assert_eq!(package(POSTINST, None), both("p", "Configuring p"));
}

#[test]
fn a_last_line_may_have_no_end() {
    let image = image();
    let mut script = Script { status: 4, ..Script::of("SET p/q one\nSET p/q the last") };
    // It hears nothing after its end.
    assert_eq!(talk(image.path(), POSTINST, &mut script), Answer::status(4));
    assert!(databases(image.path()).contains("Value: the last\n"));
    let mut script = Script::of("SET p/q two\n0");
    assert_eq!(talk(image.path(), POSTINST, &mut script), Answer::success());
    assert_eq!(script.heard, ["0 value set\n"]);
}
