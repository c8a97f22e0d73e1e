//! The valid project: what comes out of it, exactly.

use build_images::model::image::Address;
use build_images::model::{self, Diagnostics};
use proptest::prelude::*;

use crate::{Edit, project};

#[test]
fn the_base_project_loads_without_a_word() {
    let root = project(&[]);
    let project = model::load(root.path()).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(project.warnings, Diagnostics::default());
    insta::assert_json_snapshot!("site", project.site);
    insta::assert_json_snapshot!("images", project.images);
    insta::assert_json_snapshot!("recipes", project.recipes);
}

#[test]
fn templates_are_rendered_with_declared_values() {
    let root = project(&[Edit::Write(
        "recipes/debian-13/files/timezone.tera",
        b"{{ site.timezone }} {{ site.network.subnet }} {{ site.network.nameservers | join(sep=',') }} \
          {{ site.directories.state }}\n{{ image.name }} {{ image.hostname }} {{ image.domain }} {{ image.address }}/{{ image.prefix }} \
          {{ image.gateway }} {{ image.vmid }} {{ image.cores }} {{ image.memory }}\n\
          {{ recipe.name }} {{ recipe.release }}\n\
          {{ ids.group.media }} {{ ids.user.root }} {% if ids.user.jellyfin is defined %}j{% else %}q{% endif %} <&>\n",
    )]);
    let project = model::load(root.path()).unwrap_or_else(|problems| panic!("{problems}"));
    let evaluated = model::evaluate(&project, "qbittorrent").unwrap();
    let texts: Vec<_> = evaluated
        .recipes
        .iter()
        .flat_map(|recipe| &recipe.files)
        .map(|file| format!("{} {:04o}\n{}", file.path, file.mode, String::from_utf8_lossy(&file.bytes)))
        .collect();
    insta::assert_snapshot!("rendered", texts.join("\n"));
    assert_eq!(evaluated.image, project.images["qbittorrent"]);
    assert_eq!(model::evaluate(&project, "qbittorrent").unwrap(), evaluated);
}

#[test]
fn asking_for_an_image_that_is_not_there_names_the_nearest() {
    let root = project(&[]);
    let project = model::load(root.path()).unwrap();
    let problems = model::evaluate(&project, "qbitorrent").unwrap_err();
    insta::assert_snapshot!(problems.to_string(), @r"
    error: there is no image `qbitorrent`
    --> images
     = help: did you mean `qbittorrent`?

    1 error
    ");
}

#[test]
fn addresses_may_come_from_elsewhere() {
    let root = project(&[
        Edit::Replace("images/qbittorrent.toml", "address = 59", "address = \"dhcp\""),
        Edit::Write(
            "recipes/qbittorrent/files/qBittorrent.conf.tera",
            b"{% if image.address is defined %}a{% else %}b{% endif %}",
        ),
    ]);
    let project = model::load(root.path()).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(project.images["qbittorrent"].container.address, Address::Dhcp);
    let evaluated = model::evaluate(&project, "qbittorrent").unwrap();
    let conf =
        evaluated.recipes[1].files.iter().find(|file| file.path.name() == b"qBittorrent.conf").unwrap();
    assert_eq!(conf.bytes, b"b");
}

#[test]
fn several_states_get_a_directory_each() {
    let root =
        project(&[Edit::Append("recipes/qbittorrent/recipe.toml", "\n[[state]]\npath = \"/srv/watch\"\n")]);
    let project = model::load(root.path()).unwrap_or_else(|problems| panic!("{problems}"));
    let mounts: Vec<_> = project.images["qbittorrent"]
        .mounts
        .iter()
        .map(|mount| format!("{} {} {}", mount.source, mount.target, mount.state.is_some()))
        .collect();
    assert_eq!(
        mounts,
        [
            "/srv/media/downloads /srv/downloads false",
            "/srv/appdata/qbittorrent/qbittorrent /var/lib/qbittorrent true",
            "/srv/appdata/qbittorrent/watch /srv/watch true",
        ]
    );
}

#[test]
fn a_mount_can_stand_in_for_state() {
    let root = project(&[Edit::Append(
        "images/qbittorrent.toml",
        "\n[[mount]]\nsource = \"/srv/ssd/qbittorrent\"\ntarget = \"/var/lib/qbittorrent\"\n",
    )]);
    let project = model::load(root.path()).unwrap_or_else(|problems| panic!("{problems}"));
    let mounts = &project.images["qbittorrent"].mounts;
    assert_eq!(mounts.len(), 2);
    assert_eq!(mounts[1].source, "/srv/ssd/qbittorrent");
    assert_eq!(mounts[1].state, Some(mounts[1].target.clone()));
}

#[test]
fn the_hardware_address_depends_on_site_and_image_only() {
    let mac = |edits: &[Edit]| {
        let root = project(edits);
        model::load(root.path()).unwrap().images["qbittorrent"].container.mac.clone()
    };
    let first = mac(&[]);
    assert!(first.starts_with("BC:24:11:"));
    assert_eq!(mac(&[Edit::Replace("images/qbittorrent.toml", "vmid = 159", "vmid = 160")]), first);
    assert_ne!(
        mac(&[Edit::Replace("images/site.toml", "domain = \"example.org\"", "domain = \"example.net\"")]),
        first
    );
}

#[test]
fn two_recipes_of_an_image_may_declare_the_same_group() {
    let both = Edit::Replace("images/qbittorrent.toml", "\"qbittorrent\"]", "\"qbittorrent\", \"jellyfin\"]");
    let root = project(&[both]);
    let project = model::load(root.path()).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(project.warnings, Diagnostics::default());
    let groups = project.recipes.values().flat_map(|recipe| &recipe.groups);
    assert_eq!(groups.filter(|group| group.name == "media" && group.gid == 950).count(), 2);
}

#[test]
fn a_graphics_card_belongs_to_the_pinned_group() {
    let gpu = "cores = 4\ngpu = \"/dev/dri/renderD129\"";
    let root = project(&[
        Edit::Replace("images/jellyfin.toml", "cores = 4", gpu),
        Edit::Replace("recipes/jellyfin/recipe.toml", "gid = 944", "gid = 945"),
    ]);
    let project = model::load(root.path()).unwrap_or_else(|problems| panic!("{problems}"));
    let config = build_images::pve::config_for(&project.images["jellyfin"], &project.site);
    let text = config.to_text();
    assert!(text.contains("\ndev0: /dev/dri/renderD129,gid=945,mode=0660\n"), "{text}");
    assert_eq!(config.check(project.site.node.release.into()), []);
    let without = build_images::pve::config_for(&project.images["qbittorrent"], &project.site).to_text();
    assert!(!without.contains("dev0"), "{without}");
}

#[test]
fn needed_space_is_on_the_mount_that_holds_it() {
    let root = project(&[]);
    let project = model::load(root.path()).unwrap_or_else(|problems| panic!("{problems}"));
    let space: Vec<_> = project.images["jellyfin"]
        .space
        .iter()
        .map(|space| format!("{} {:?} {}", space.path, space.source, space.free))
        .collect();
    assert_eq!(
        space,
        ["/var/lib/jellyfin/data Some(\"/srv/appdata/jellyfin\") 2048", "/var/cache/jellyfin None 2048",]
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Whatever stands in a file, there is an answer, and it can be shown.
    #[test]
    fn no_text_makes_it_fall_over(
        file in 0_usize..6,
        start in 0.0_f64..1.0,
        length in 0_usize..40,
        with in prop_oneof![".*", "[\\[\\]{}=\"'.#a-z0-9 \n-]{0,30}", "[é{}% |()a-z.]{0,20}"],
    ) {
        let path = [
            "images/site.toml",
            "images/qbittorrent.toml",
            "recipes/debian-13/recipe.toml",
            "recipes/qbittorrent/recipe.toml",
            "recipes/qbittorrent/files/qBittorrent.conf.tera",
            "recipes/jellyfin/recipe.toml",
        ][file];
        let root = project(&[]);
        let old = std::fs::read_to_string(root.path().join(path)).unwrap();
        let start = old.floor_char_boundary((start * old.len() as f64) as usize);
        let end = old.floor_char_boundary((start + length).min(old.len()));
        let new = format!("{}{with}{}", &old[..start], &old[end..]);
        std::fs::write(root.path().join(path), new).unwrap();
        match model::load(root.path()) {
            Ok(project) => { model::evaluate(&project, "qbittorrent").unwrap(); }
            Err(problems) => {
                prop_assert!(problems.has_errors());
                prop_assert!(problems.render(true).len() > problems.render(false).len());
            }
        }
    }
}
