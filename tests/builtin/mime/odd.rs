//! What is left to the program.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::{MIME, PROGRAM, WORDS, bare, document, put};

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
    let many = |count, text: &str| format!("<mime-type type='t/a'>{}</mime-type>", text.repeat(count));
    let pattern = |length| format!("<glob pattern='*{}'/>", "x".repeat(length));
    put(&world, "odd", &(many(1000, "<glob pattern='a'/>") + &many(1, &pattern(200))));
    world.must(PROGRAM, WORDS);
    for odd in [many(5000, "<icon name='a'/>"), many(1, &pattern(300)), many(1, &" ".repeat(1 << 15))] {
        put(&world, "odd", &odd);
        world.must_not(PROGRAM, WORDS);
    }
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
        let path = root.join("usr/bin/update-mime-database");
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    });
    world.must_not(PROGRAM, WORDS);
    world.remove("/usr/share/mime");
    assert_eq!(world.alone(PROGRAM, WORDS), None);
}
