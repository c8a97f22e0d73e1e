//! `step`: the same layers and images as a build makes, from orders alone; and orders that are wrong.

use std::fs;
use std::path::{Path, PathBuf};

use build_images::apt::lockfile::{Lock, Reason};
use serde_json::{Value, json};

use crate::built::hashes;
use crate::project::{Project, Run, program};
use crate::quick::{Quick, quick};
use crate::support::repository::Served;

/// A place for orders and results, with the .debs of a project.
struct Bench {
    directory: tempfile::TempDir,
    lock: Lock,
}

impl Bench {
    fn new(project: &Project, served: &Served) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let lock = Lock::parse(&project.read("images/images.lock")).unwrap();
        for row in &lock.package {
            let bytes = served.server.file(&format!("test/{}", row.path));
            fs::write(directory.path().join(row.sha256.to_string()), bytes).unwrap();
        }
        Self { directory, lock }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The order for the layer of `recipes`, as the lock has it.
    fn layer(&self, recipes: &[&str], below: &[&str]) -> Value {
        let names: Vec<_> = recipes.iter().map(|name| (*name).to_owned()).collect();
        let set = self.lock.set(&names).unwrap();
        let package = |member| {
            let row = self.lock.package(member).unwrap();
            json!({
                "name": row.name, "version": row.version, "architecture": row.architecture, "size": row.size,
                "sha256": row.sha256, "deb": self.path(&row.sha256.to_string()),
            })
        };
        let asked = set.packages.iter().filter(|member| member.reason <= Reason::Required);
        json!({
            "step": "layer",
            "recipes": recipes,
            "below": below.iter().map(|name| self.path(name)).collect::<Vec<_>>(),
            "packages": set.packages.iter().map(package).collect::<Vec<_>>(),
            "requested": asked.map(|member| &member.name).collect::<Vec<_>>(),
            "accounts": [{ "recipe": recipes.last() }],
            "epoch": self.lock.archive[0].suite[0].date,
        })
    }

    fn image(&self, project: &Project, image: &str, layers: &[&str]) -> Value {
        let layers: Vec<_> = layers.iter().map(|name| self.path(name)).collect();
        json!({
            "step": "image", "image": image, "project": project.path(""), "lock": self.lock, "layers": layers,
        })
    }

    fn step(&self, order: &Value, out: &str) -> Run {
        self.step_text(&order.to_string(), out)
    }

    fn step_text(&self, order: &str, out: &str) -> Run {
        fs::write(self.path("order"), order).unwrap();
        let mut command = program();
        command.arg("step").arg(self.path("order")).arg(self.path(out)).arg("--quiet");
        command.env("TMPDIR", self.temporary());
        Run::of(command.output().unwrap())
    }

    /// Where steps work. Empty afterwards.
    fn temporary(&self) -> PathBuf {
        let path = self.path("temporary");
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn said(&self, run: &Run) -> String {
        run.err.replace(&self.directory.path().display().to_string(), "PLACE")
    }
}

#[test]
fn steps_make_what_a_build_makes() {
    let Some((project, served)): Option<Quick> = quick() else { return };
    project.run(&served, &[]).code(0);
    let plan = project.run(&served, &["show", "app", "--plan", "--json"]).code(0).json();
    let bench = Bench::new(&project, &served);
    bench.step(&bench.layer(&["base"], &[]), "one").code(0);
    bench.step(&bench.layer(&["base", "app"], &["one"]), "two").code(0);
    for layer in ["one", "two"] {
        let names = |path: &Path| -> Vec<String> {
            fs::read_dir(path)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect()
        };
        let keys = names(&bench.path(layer).join("layers"));
        assert_eq!(keys.len(), 1);
        assert!(plan.to_string().contains(&keys[0]), "{plan}");
    }
    // Made again, of layers that were made elsewhere, it is the same to the last byte.
    bench.step(&bench.layer(&["base"], &[]), "again").code(0);
    let key = fs::read_dir(bench.path("one/layers")).unwrap().next().unwrap().unwrap().file_name();
    let files = |place: &str| hashes(&bench.path(place).join("layers").join(&key));
    assert_eq!(files("one"), files("again"));
    for (image, layers) in [("bare", &["one"][..]), ("app", &["one", "two"][..])] {
        let run = bench.step(&bench.image(&project, image, layers), image).code(0);
        assert!(run.out.starts_with(&format!("image `{image}` with SHA-256 ")), "{}", run.out);
        let ours = bench.path(image).join(image);
        assert_eq!(hashes(&ours), hashes(&project.path("result").join(image)));
        bench.step(&json!({ "step": "verify", "artifact": ours }), &format!("verified-{image}")).code(0);
    }
    let images = json!({ "app": bench.path("app"), "bare": bench.path("bare") });
    bench.step(&json!({ "step": "collect", "images": images }), "all").code(0);
    assert!(bench.path("all/app/manifest.json").exists() && bench.path("all/bare/manifest.json").exists());
    assert_eq!(fs::read_dir(bench.temporary()).unwrap().count(), 0);

    // Not the layers that the plan names: no image at all.
    let run = bench.step(&bench.image(&project, "app", &["one"]), "none").code(1);
    assert!(run.err.contains("app: it needs the layer "), "{}", run.err);
    assert!(run.err.contains("order and program do not fit together"), "{}", run.err);
    assert!(!bench.path("none").exists());
    // A .deb that is another one, and a layer that was changed.
    let mut order = bench.layer(&["base"], &[]);
    order["packages"][0]["deb"] = order["packages"][1]["deb"].clone();
    let run = bench.step(&order, "wrong").code(1);
    assert!(run.err.contains("expected SHA-256") || run.err.contains("expected size"), "{}", run.err);
    assert!(!bench.path("wrong").exists());
    let layers = bench.path("one/layers");
    let pack = fs::read_dir(layers).unwrap().next().unwrap().unwrap().path().join("pack");
    let mut bytes = fs::read(&pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&pack, bytes).unwrap();
    let run = bench.step(&bench.image(&project, "bare", &["one"]), "damaged").code(1);
    assert!(run.err.contains("is damaged: "), "{}", run.err);
    assert_eq!(fs::read_dir(bench.temporary()).unwrap().count(), 0);
}

#[test]
fn a_wrong_order_is_said_before_anything_is_made() {
    let (project, served) = Project::locked();
    let bench = Bench::new(&project, &served);
    let layer = bench.layer(&["base"], &[]);
    let with = |key: &str, value: Value| {
        let mut order = layer.clone();
        order[key] = value;
        order.to_string()
    };
    let user = json!([{ "recipe": "base", "user": [{ "name": "Some One", "uid": 7 }] }]);
    let cases = [
        String::new(),
        "{ \"step\": \"bake\" }".to_owned(),
        with("more", json!(1)),
        with("epoch", json!("yesterday")),
        with("requested", json!("dpkg")),
        with("accounts", user),
        json!({ "step": "image", "image": "other", "project": project.path(""), "lock": bench.lock, "layers": [] })
            .to_string(),
        json!({ "step": "collect", "images": { "../up": "/" } }).to_string(),
    ];
    let mut said = String::new();
    for order in cases {
        let run = bench.step_text(&order, "out").code(2);
        said += &bench.said(&run);
        assert!(!bench.path("out").exists());
    }
    insta::assert_snapshot!(said);
    fs::write(bench.path("there"), "").unwrap();
    let run = bench.step(&layer, "there").code(2);
    insta::assert_snapshot!(bench.said(&run), @"error: `PLACE/there` is there already");
}
