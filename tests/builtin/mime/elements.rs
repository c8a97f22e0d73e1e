//! Whatever a type may hold, from written samples and at random.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use super::{MIME, PROGRAM, WORDS, bare, document, put, unmade};

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
