//! Two containers of the image hand a film to each other.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::application::{self, DOWNLOADS, MEDIA, STATE, Session, USER, on_node};
use crate::container::Container;
use crate::pct::Config;
use crate::restore::{self, Verb};
use crate::torrent::{self, File};
use crate::world::{World, facts, set_owner};
use crate::{archive, node, prepared};

#[test]
fn a_torrent_of_category_movies_arrives_where_the_node_expects_it() {
    let Some(_turn) = prepared() else { return };
    let (world, config) = node();
    let other = neighbour(&config);
    let giver = running(&world, "giver", &other);
    let taker = running(&world, "taker", &config);

    let files = [
        File { path: &["film.mkv"], bytes: torrent::noise(5 << 20) },
        File {
            path: &["subtitles", "film.srt"],
            bytes: b"1\n00:00:01,000 --> 00:00:02,000\nHello.\n".to_vec(),
        },
    ];
    let torrent = torrent::describe("film", &files);
    let original = on_node(&world, &other, DOWNLOADS).join("complete/movies/film");
    for file in &files {
        let path = original.join(file.path.iter().collect::<PathBuf>());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, &file.bytes).unwrap();
    }
    for entry in walkdir::WalkDir::new(&original) {
        set_owner(entry.unwrap().path(), (USER, MEDIA));
    }

    let from = Session::log_in(&world, &giver);
    let to = Session::log_in(&world, &taker);
    add(&from, &torrent.bytes);
    until(&from, &torrent.hash, |torrent| torrent["progress"] == 1.0);
    add(&to, &torrent.bytes);
    let arrived = on_node(&world, &config, DOWNLOADS).join("complete/movies/film");
    let peer = format!("hashes={}&peers={}:6881", torrent.hash, other.card().address);
    until(&to, &torrent.hash, |torrent| {
        to.post("torrents/addPeers", &peer);
        // It is complete a moment before it is moved.
        torrent["progress"] == 1.0 && torrent["state"] != "moving" && arrived.exists()
    });

    let downloads = on_node(&world, &config, DOWNLOADS);
    for file in &files {
        let path = arrived.join(file.path.iter().collect::<PathBuf>());
        assert!(fs::read(&path).unwrap() == file.bytes, "{} differs from what was sent", path.display());
        assert_eq!(facts(&path), (USER, MEDIA, 0o664), "{}", path.display());
    }
    for directory in [
        "",
        "complete",
        "complete/movies",
        "complete/movies/film",
        "complete/movies/film/subtitles",
        "incomplete",
    ] {
        assert_eq!(facts(&downloads.join(directory)), (USER, MEDIA, 0o2775), "{directory}");
    }
    let left: Vec<_> = walkdir::WalkDir::new(downloads.join("incomplete")).min_depth(1).into_iter().collect();
    assert!(left.is_empty(), "{left:?}");
    taker.stop();
    giver.stop();
}

/// The same image as another container of the network.
fn neighbour(config: &Config) -> Config {
    let mut other = config.clone();
    let card = config.card();
    let [a, b, c, _] = card.address.octets();
    let mac = format!("{}:FE", &card.mac[..card.mac.len() - 3]);
    other.set(
        "net0",
        format!(
            "name={},bridge={},gw={},hwaddr={mac},ip={a}.{b}.{c}.60/{},type=veth",
            card.name, card.bridge, card.gateway, card.prefix
        ),
    );
    other.set("hostname", "neighbour");
    for index in 0..10 {
        let key = format!("mp{index}");
        if let Some(value) = config.get(&key) {
            other.set(&key, value.replacen("/srv/", "/srv/neighbour/", 1));
        }
    }
    other
}

fn running<'a>(world: &'a World, name: &str, config: &Config) -> Container<'a> {
    application::make_directories(world, config);
    assert_ne!(on_node(world, config, STATE), on_node(world, config, DOWNLOADS));
    let root = format!("/mnt/{name}");
    restore::unpack(world, archive(), &root, Verb::Restore);
    let container = Container::new(world, name, &root, config.clone());
    container.start();
    container
}

/// Adds a torrent of category movies; everything else is left to the seeded configuration.
fn add(session: &Session<'_>, torrent: &[u8]) {
    let line = "--boundary\r\nContent-Disposition: form-data; name=";
    let body = [
        format!("{line}\"category\"\r\n\r\nmovies\r\n").as_bytes(),
        format!("{line}\"torrents\"; filename=\"demo.torrent\"\r\n").as_bytes(),
        b"Content-Type: application/x-bittorrent\r\n\r\n",
        torrent,
        b"\r\n--boundary--\r\n",
    ]
    .concat();
    let answer = session.post_as("torrents/add", "multipart/form-data; boundary=boundary", &body);
    assert!(answer.status == 200 && !answer.body.contains("Fails"), "the torrent is refused: {answer:?}");
}

/// Waits until a torrent is as wanted.
fn until(session: &Session<'_>, hash: &str, mut wanted: impl FnMut(&serde_json::Value) -> bool) {
    let begin = Instant::now();
    let mut last = String::new();
    while begin.elapsed() < Duration::from_secs(90) {
        last = session.get(&format!("torrents/info?hashes={hash}")).body;
        let torrents: Vec<serde_json::Value> = serde_json::from_str(&last).unwrap();
        if torrents.first().is_some_and(&mut wanted) {
            return;
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    panic!("waited long enough for {hash}: {last}");
}
