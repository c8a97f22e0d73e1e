//! `update-mime-database`.

use std::fs;
use std::path::Path;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::world::World;

const PROGRAM: &str = "update-mime-database";
const MIME: &str = "/usr/share/mime";
const WORDS: &[&str] = &[MIME];
/// Where the sample of packages' files is.
const SAMPLES: &str = "/usr/share/sample-types";
/// What the program writes beside the files of types.
const LISTS: [&str; 12] = [
    "XMLnamespaces",
    "aliases",
    "generic-icons",
    "globs",
    "globs2",
    "icons",
    "magic",
    "mime.cache",
    "subclasses",
    "treemagic",
    "types",
    "version",
];

/// Two roots with nothing in `/usr/share/mime` but shared-mime-info's own file.
fn unmade() -> Option<World> {
    let world = World::new()?;
    world.change(|root| {
        for entry in fs::read_dir(root.join("usr/share/mime")).unwrap().map(Result::unwrap) {
            match entry.file_type().unwrap().is_dir() {
                true if entry.file_name() == "packages" => {}
                true => fs::remove_dir_all(entry.path()).unwrap(),
                false => fs::remove_file(entry.path()).unwrap(),
            }
        }
    });
    Some(world)
}

/// As [`unmade`], without any packages.
fn bare() -> Option<World> {
    let world = unmade()?;
    world
        .list("/usr/share/mime/packages")
        .iter()
        .for_each(|name| world.remove(&format!("{MIME}/packages/{name}")));
    Some(world)
}

/// A file of packages with these elements.
fn document(inside: &str) -> String {
    let namespace = "http://www.freedesktop.org/standards/shared-mime-info";
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<mime-info xmlns=\"{namespace}\">\n{inside}</mime-info>\n"
    )
}

fn put(world: &World, name: &str, inside: &str) {
    world.write(&format!("{MIME}/packages/{name}.xml"), document(inside));
}

/// Whether everything is there that the program makes.
fn is_made(world: &World) -> bool {
    LISTS.iter().all(|name| world.has(&format!("{MIME}/{name}")))
}

#[test]
fn the_whole_set_from_nothing_and_again() {
    let Some(mut world) = unmade() else { return };
    assert!(!world.has("/usr/share/mime/mime.cache"));
    world.must(PROGRAM, WORDS);
    assert!(is_made(&world) && world.has("/usr/share/mime/application/x-bittorrent.xml"));
    world.must(PROGRAM, WORDS);
    world.set("PKGSYSTEM_ENABLE_FSYNC", "0");
    // Types that are gone, in directories that are looked into and in one that is not.
    for stale in
        ["application/x-gone.xml", "chemical/Gone.xml", "other/x-gone.xml", "text/notes.txt", "font/.xml"]
    {
        world.write(&format!("{MIME}/{stale}"), "stale");
    }
    world.link("/usr/share/mime/image/x-gone.xml", "png.xml");
    world.link("/usr/share/mime/image/png.xml", "gif.xml");
    world.link("/usr/share/mime/aliases", "nowhere");
    world.must(PROGRAM, WORDS);
    assert!(
        !world.has("/usr/share/mime/application/x-gone.xml") && world.has("/usr/share/mime/other/x-gone.xml")
    );
    put(&world, "Override", "<mime-type type='text/plain'><comment>Said last</comment></mime-type>");
    world.must(PROGRAM, WORDS);
    world.remove(&format!("{MIME}/packages/freedesktop.org.xml"));
    world.must(PROGRAM, WORDS);
    world.remove(&format!("{MIME}/packages/Override.xml"));
    world.must(PROGRAM, WORDS);
    assert!(is_made(&world) && !world.has("/usr/share/mime/text/plain.xml"));
}

#[test]
fn types_of_other_packages() {
    let Some(world) = World::new() else { return };
    let names = world.list(SAMPLES);
    assert!(names.len() > 10, "{names:?}");
    let mut understood = Vec::new();
    for name in &names {
        let Some(mut world) = bare() else { return };
        take(&world, name);
        if world.call(PROGRAM, WORDS) {
            understood.push(name.as_str());
        }
    }
    println!("{} of {} are understood: {understood:?}", understood.len(), names.len());
    assert!(understood.len() * 10 > names.len() * 7);
    let Some(mut world) = unmade() else { return };
    understood.iter().for_each(|name| take(&world, name));
    world.must(PROGRAM, WORDS);
    for name in understood.iter().step_by(2) {
        world.remove(&format!("{MIME}/packages/{name}"));
    }
    world.must(PROGRAM, WORDS);
}

/// Makes one of the samples a file of packages.
fn take(world: &World, name: &str) {
    let copy = |root: &Path| {
        let to = root.join("usr/share/mime/packages").join(name);
        fs::copy(root.join(SAMPLES.trim_start_matches('/')).join(name), to).unwrap();
    };
    world.change(copy);
}

/// Elements of a type `t/a`, by what they are about.
const ELEMENTS: [(&str, &str); 12] = [
    (
        "globs",
        "<glob pattern='*.A'/><glob pattern='*.A' case-sensitive='true'/><glob weight='0' pattern='*.a'/>
        <glob pattern='*.a' weight='100'/><glob pattern='README' weight='7' /><glob pattern='*.tar.gz'></glob>
        <glob pattern='*.ü&#x20ac;€' weight='060'/><glob pattern='[0-9]*.x'/><glob pattern='a?'> </glob>
        <glob pattern='**'/><glob pattern='*.b*'/><glob pattern='x\\*' case-sensitive='false'/><glob pattern='*a'/>
        <glob pattern='__NOGLOBS__' case-sensitive='true'/><glob pattern='a:b \" &lt;&gt;&amp;&quot;&apos;'/>
        <glob pattern=\"it's\" case-sensitive='true' weight='1'/><glob pattern='two
        lines'/>",
    ),
    ("deletions", "<glob pattern='*.d'/><glob-deleteall/><magic-deleteall/><glob pattern='*.e'/><glob-deleteall/>"),
    (
        "magic",
        "<magic><match type='string' offset='0' value='a'/></magic>
        <magic priority='100'>text <match type='string' offset='0:1024' value='\\x7fELF\\0\\777\\ \\\\'>
          <match type='big16' offset='5' value='0x1234'/><!-- nested -->
          <match type='little32' offset='6:6' value='017' mask='0xff00'>
            <match type='byte' offset='0' value='255' mask='1'/><match type='byte' offset='1' value='0'/>
          </match></match>
          <match type='host16' offset='5' value='4660' mask='0xff0f'/><match type='host32' offset='5' value='1'/>
          <match type='big32' offset='9' value='0xffffffff'/><match type='little16' offset='000' value='1'/></magic>
        <magic priority='0'><match type='string' offset='1' value='häh&#65;&lt;' mask='0xFFfF00f'/></magic>",
    ),
    (
        "trees",
        "<treemagic/><treemagic priority='70'><treematch path='a/b &quot;c' type='directory' match-case='true'
        executable='true' non-empty='true' mimetype='t/z'><treematch path='d' type='file'/>
        <treematch path='' type='link' executable='false'/></treematch><treematch path='é'/></treemagic>",
    ),
    ("aliases", "<alias type='t/old'/><alias type='t/old'/><alias type='u/Older'/><sub-class-of type='t/p'/>
        <sub-class-of type='text/plain'/><sub-class-of type='t/p'/>"),
    ("roots", "<root-XML namespaceURI='urn:x' localName='y'/><root-XML namespaceURI='' localName='z'/>
        <root-XML namespaceURI='urn:x' localName=''/><root-XML namespaceURI='é' localName='y'/>"),
    ("icons", "<icon name='one'/><icon name='two'/><generic-icon name='text-x-generic'/>"),
    (
        "comments",
        "<comment>none</comment><comment xml:lang='de'>Größe</comment><!-- beside -->
        <comment xml:lang='en_GB.UTF-8@x'>B</comment><comment>again</comment><comment xml:lang=''>empty</comment>
        <comment xml:lang='de'>  noch einmal\t\n  &#65;&#xe9; </comment><comment/><comment></comment>",
    ),
    ("acronyms", "<acronym>A</acronym><expanded-acronym xml:lang='fr'>B</expanded-acronym><acronym>C</acronym>"),
    ("escapes", "<comment>&lt;a&gt; &amp;amp; &quot;\"&apos;' \u{10348} \u{a0}</comment><icon name='&lt;&quot;é'/>"),
    ("nothing", ""),
    ("text", "between <comment xml:lang = \"nl\" >x</comment > the elements\n"),
];

#[test]
fn each_element() {
    for (what, inside) in ELEMENTS {
        let Some(mut world) = bare() else { return };
        println!("{what}");
        put(&world, "a", &format!("<mime-type type='t/a'>{inside}</mime-type>"));
        world.must(PROGRAM, WORDS);
        // Said again, in another file, and by another type.
        put(
            &world,
            "b",
            &format!("<mime-type type='t/b'>{inside}</mime-type><mime-type type='t/a'>{inside}</mime-type>"),
        );
        world.must(PROGRAM, WORDS);
    }
    let Some(mut world) = unmade() else { return };
    for (number, (_, inside)) in ELEMENTS.iter().enumerate() {
        let name = if number == 3 {
            "Override"
        } else {
            &format!("{}{number}", if number % 2 == 0 { "é" } else { "Z" })
        };
        put(&world, name, &format!("<mime-type type='text/plain'>{inside}</mime-type><!-- x -->"));
    }
    // No files of packages.
    world.write(&format!("{MIME}/packages/.xml"), "x");
    world.write(&format!("{MIME}/packages/notes.txt"), "x");
    world.write(&format!("{MIME}/packages/a.XML"), "x");
    world.must(PROGRAM, WORDS);
    assert_eq!(world.done, 1);
}

#[test]
fn names_that_differ_by_case_and_directories_of_all_kinds() {
    let Some(mut world) = bare() else { return };
    world.must(PROGRAM, WORDS);
    let types = ["t/a", "t/A", "T/a", "Text/x", "text/X", "x-content/UPPER", "a+b.c-d_e/!#$&amp;^"];
    let all: Vec<_> = types
        .iter()
        .map(|name| format!("<mime-type type='{name}'><icon name='{name}'/></mime-type>"))
        .collect();
    put(&world, "a", &all.concat());
    world.must(PROGRAM, WORDS);
    world.must(PROGRAM, WORDS);
    put(&world, "a", &all.iter().rev().cloned().collect::<String>());
    world.change(|root| {
        use std::os::unix::fs::PermissionsExt as _;
        let permissions = fs::Permissions::from_mode(0o700);
        fs::set_permissions(root.join("usr/share/mime/t"), permissions).unwrap();
        fs::write(root.join("usr/share/mime/t/kept.xml"), "x").unwrap();
    });
    world.must(PROGRAM, WORDS);
}

/// A file of packages with everything in it that there is, at random.
fn random_document(random: &mut StdRng, types: usize) -> String {
    let letters = |random: &mut StdRng, most: usize| -> String {
        let length = random.random_range(1..=most);
        (0..length).map(|_| *b"abcdexyzABC01-.".choose(random).unwrap() as char).collect()
    };
    let mut inside = String::new();
    for _ in 0..types {
        inside += &format!(
            "<mime-type type='{}/x-{}'>",
            ["t", "u", "application"].choose(random).unwrap(),
            letters(random, 2)
        );
        for _ in 0..random.random_range(0..8) {
            let (a, b, number) = (letters(random, 3), letters(random, 5), random.random_range(0..=100));
            let text = ["&lt;é", "plain", " ", "a\"b"].choose(random).unwrap();
            inside += &match random.random_range(0..11) {
                0 => format!("<comment xml:lang='{a}'>{text}{b}</comment>"),
                1 => format!("<glob pattern='*.{a}' weight='{number}'/>"),
                2 => format!(
                    "<glob pattern='{}{a}{}' case-sensitive='true'/>",
                    ["*", "", "?"].choose(random).unwrap(),
                    ["", "*", "]"].choose(random).unwrap()
                ),
                3 => format!("<alias type='t/x{a}'/>"),
                4 => format!("<sub-class-of type='t/x{b}'/>"),
                5 => format!("<icon name='{a}'/><generic-icon name='{b}'/>"),
                6 => format!("<root-XML namespaceURI='{a}' localName='{}'/>", letters(random, 1)),
                7 => format!(
                    "<magic priority='{number}'><match offset='{number}:101' type='string' value='{b}'><match offset='0' type='big32' value='{number}'/></match><match offset='1' type='string' value='{a}' mask='0xf'/></magic>"
                ),
                8 => format!("<treemagic priority='{number}'><treematch path='{a}'/></treemagic>"),
                9 if number < 20 => "<glob-deleteall/>".to_owned(),
                10 if number < 20 => "<magic-deleteall/>".to_owned(),
                _ => format!("<glob pattern='{b}'/>"),
            };
        }
        inside += "</mime-type>\n";
    }
    document(&inside)
}

#[test]
fn random_packages() {
    let mut random = StdRng::seed_from_u64(7);
    for round in 0..25 {
        let Some(mut world) = bare() else { return };
        for file in 0..random.random_range(1..4) {
            let types = random.random_range(1..=[3, 12, 60, 400][round % 4]);
            world.write(&format!("{MIME}/packages/{file}.xml"), random_document(&mut random, types));
            world.must(PROGRAM, WORDS);
        }
    }
}

/// What a type is not known to hold, or the program complains of.
const ODD_ELEMENTS: [&str; 61] = [
    "<unknown/>",
    "<x:comment xmlns:x='http://www.freedesktop.org/standards/shared-mime-info'>x</x:comment>",
    "<comment xmlns=''>x</comment>",
    "<other xmlns='urn:other'/>",
    "<comment xmlns:x='urn:x'>x</comment>",
    "<comment xml:space='preserve'>x</comment>",
    "<comment lang='de'>x</comment>",
    "<comment>a<!-- b -->c</comment>",
    "<comment>a<b/></comment>",
    "<comment><![CDATA[a]]></comment>",
    "<comment>&#13;</comment>",
    "<comment>a\r\nb</comment>",
    "<comment>&unknown;</comment>",
    "<comment>\u{1}</comment>",
    "<comment>a & b</comment>",
    "<comment>]]></comment>",
    "<comment xml:lang='a' xml:lang='b'/>",
    "<comment xml:lang='a'xml:space='b'/>",
    "<comment>x</Comment>",
    "<!-- a -- b -->",
    "<?target?>",
    "<glob/>",
    "<glob pattern=''/>",
    "<glob pattern='a&#10;b'/>",
    "<glob pattern='a<b'/>",
    "<glob pattern='a' weight='101'/>",
    "<glob pattern='a' weight='-1'/>",
    "<glob pattern='a' weight=''/>",
    "<glob pattern='a' weight=' 1'/>",
    "<glob pattern='a' case-sensitive='yes'/>",
    "<glob pattern='a' other='b'/>",
    "<glob-deleteall other='b'/>",
    "<magic/>",
    "<magic priority='x'><match type='string' offset='0' value='a'/></magic>",
    "<magic><other/></magic>",
    "<magic><match type='string' offset='0'/></magic>",
    "<magic><match type='string' value='a'/></magic>",
    "<magic><match offset='0' value='a'/></magic>",
    "<magic><match type='string' offset='0' value=''/></magic>",
    "<magic><match type='string' offset='0' value='\\'/></magic>",
    "<magic><match type='string' offset='2:1' value='a'/></magic>",
    "<magic><match type='string' offset='-1' value='a'/></magic>",
    "<magic><match type='string' offset='0' value='a' mask='ff'/></magic>",
    "<magic><match type='string' offset='0' value='a' mask='0xffff'/></magic>",
    "<magic><match type='byte' offset='0' value='256'/></magic>",
    "<magic><match type='byte' offset='0' value='x'/></magic>",
    "<magic><match type='big64' offset='0' value='1'/></magic>",
    "<treemagic><treematch/></treemagic>",
    "<treemagic><treematch path='a' type='pipe'/></treemagic>",
    "<treemagic><match type='string' offset='0' value='a'/></treemagic>",
    "<alias/>",
    "<alias type='none'/>",
    "<sub-class-of type='a/b/c'/>",
    "<root-XML namespaceURI='a'/>",
    "<root-XML localName='a'/>",
    "<root-XML namespaceURI='' localName=''/>",
    "<root-XML namespaceURI='a b' localName='c'/>",
    "<icon/>",
    "<icon name='a b'/>",
    "<generic-icon/>",
    "<mime-type type='t/b'/>",
];

#[test]
fn odd_files_are_declined() {
    let Some(mut world) = bare() else { return };
    for odd in ODD_ELEMENTS {
        put(&world, "odd", &format!("<mime-type type='t/a'><comment>x</comment>{odd}</mime-type>"));
        world.must_not(PROGRAM, WORDS);
    }
    let types =
        ["", "a", "a/", "/a", "a/b/c", "a/.b", "a /b", "ä/b", "packages/x", "globs/x", "icons.new/x", "../x"];
    for name in types {
        // The program puts some of these where they are read as packages the next time.
        let Some(mut world) = bare() else { return };
        put(&world, "odd", &format!("<mime-type type='{name}'/>"));
        world.must_not(PROGRAM, WORDS);
    }
    let Some(mut world) = bare() else { return };
    let good = document("<mime-type type='t/a'/>");
    let files = [
        String::new(),
        good.replace("mime-info", "other"),
        good.replace("shared-mime-info", "other"),
        good.replace("UTF-8", "ISO-8859-1"),
        good.replace("1.0", "1.1"),
        good.replace("?>\n", "?>\n<!DOCTYPE mime-info [<!ATTLIST mime-type type CDATA 'a/b'>]>"),
        good.replace("?>\n", "?>\n<!DOCTYPE mime-info SYSTEM 'mime-info.dtd'>"),
        good.replace("?>\n", "?>\n<!DOCTYPE mime-info [<!ENTITY a 'b'>]>"),
        good.replace("?>\n", "?>\n<?xml-stylesheet href='x'?>"),
        good.replace("<mime-type", "<mime-type other='b'"),
        good.replace("<mime-info", "<mime-info xmlns:x='urn:x'"),
        good.replace("<mime-info", "<mime-info other='x'"),
        format!("\u{feff}{good}"),
        format!(" {good}"),
        format!("{good}text"),
        format!("{good}<mime-info/>"),
        good.replace("</mime-info>", ""),
        good.replace("<mime-type type='t/a'/>", &"<!-- large -->".repeat(700_000)),
    ];
    for odd in files {
        world.write(&format!("{MIME}/packages/odd.xml"), odd);
        world.must_not(PROGRAM, WORDS);
    }
    world.write(&format!("{MIME}/packages/odd.xml"), &good);
    world.must(PROGRAM, WORDS);
    let mut latin = good.replace("<mime-type", "<!-- ? --><mime-type").into_bytes();
    let at = latin.iter().rposition(|byte| *byte == b'?').unwrap();
    latin[at] = 0xe9;
    world.write(&format!("{MIME}/packages/odd.xml"), latin);
    world.must_not(PROGRAM, WORDS);
    let nested = |depth| {
        let open = "<match type='byte' offset='0' value='0'>".repeat(depth);
        format!("<mime-type type='t/a'><magic>{open}{}</magic></mime-type>", "</match>".repeat(depth))
    };
    put(&world, "odd", &nested(10));
    world.must(PROGRAM, WORDS);
    put(&world, "odd", &nested(100));
    world.must_not(PROGRAM, WORDS);
    world.link(&format!("{MIME}/packages/odd.xml"), "other");
    world.must_not(PROGRAM, WORDS);
}

#[test]
fn odd_calls_and_places_are_declined() {
    let Some(mut world) = bare() else { return };
    put(&world, "a", "<mime-type type='t/a'/><mime-type type='text/a'/>");
    for words in
        [&[][..], &["-V", MIME], &["-n", MIME], &["-v"], &["/usr/share/mime/"], &["/opt/mime"], &[MIME, MIME]]
    {
        world.must_not(PROGRAM, words);
    }
    world.must(PROGRAM, WORDS);
    // What is left of an interrupted run, or cannot be replaced.
    for path in ["globs.new", "text/a.xml.new", "t/a.xml.new"] {
        world.write(&format!("{MIME}/{path}"), "left");
        world.must_not(PROGRAM, WORDS);
        world.remove(&format!("{MIME}/{path}"));
    }
    for path in ["icons", "text/a.xml", "text/gone.xml"] {
        world.remove(&format!("{MIME}/{path}"));
        world.change(|root| fs::create_dir(root.join(format!("usr/share/mime/{path}"))).unwrap());
        world.must_not(PROGRAM, WORDS);
        world.remove(&format!("{MIME}/{path}"));
        world.remove(&format!("{MIME}/{path}.new"));
    }
    world.must(PROGRAM, WORDS);
    world.remove("/usr/share/mime/text");
    world.write("/usr/share/mime/text", "a file");
    world.must_not(PROGRAM, WORDS);
    world.remove("/usr/share/mime/text");
    world.link("/usr/share/mime/text", "t");
    world.must_not(PROGRAM, WORDS);
    world.remove("/usr/share/mime/text");
    world.change(|root| {
        use std::os::unix::fs::PermissionsExt as _;
        let permissions = fs::Permissions::from_mode(0o2755);
        fs::set_permissions(root.join("usr/share/mime/t"), permissions).unwrap();
    });
    world.must_not(PROGRAM, WORDS);
    world.remove("/usr/share/mime/t");
    world.must(PROGRAM, WORDS);
    let library = "/usr/lib/x86_64-linux-gnu/libxml2.so.2";
    world.change(|root| {
        let library = root.join("usr/lib/x86_64-linux-gnu");
        fs::rename(library.join("libxml2.so.2.9.14"), library.join("libxml2.so.2.10.0")).unwrap();
    });
    world.link(library, "libxml2.so.2.10.0");
    world.must_not(PROGRAM, WORDS);
    for (name, value) in [("XDG_DATA_DIRS", "/opt"), ("XDG_DATA_HOME", "/opt")] {
        let Some(mut world) = bare() else { return };
        world.set(name, value);
        world.must_not(PROGRAM, WORDS);
    }
    let Some(mut world) = bare() else { return };
    world.write("/usr/bin/update-mime-database", "#!/bin/sh\n");
    world.change(|root| {
        use std::os::unix::fs::PermissionsExt as _;
        let path = root.join("usr/bin/update-mime-database");
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    });
    world.must_not(PROGRAM, WORDS);
    world.remove("/usr/share/mime");
    assert_eq!(world.alone(PROGRAM, WORDS), None);
}
