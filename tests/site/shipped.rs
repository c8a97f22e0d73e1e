//! Every file as a snapshot: of this project, and of the same with everything that a site may say.

use std::net::Ipv4Addr;

use build_images::model::image::Address;

use crate::{files, project};

#[test]
fn the_files_of_this_project() {
    for file in files(&project()) {
        insta::with_settings!({ omit_expression => true }, {
            insta::assert_snapshot!(format!("shipped__{}", file.path.replace(['/', '.'], "_")), file.contents);
        });
    }
}

#[test]
fn a_site_that_says_everything() {
    let mut project = project();
    project.site.network.public = Some(Ipv4Addr::new(203, 0, 113, 9));
    project.site.network.admin = vec![(Ipv4Addr::new(192, 168, 1, 0), 24), (Ipv4Addr::new(10, 0, 0, 0), 8)];
    project.site.proxy.resolver = Some("dns".to_owned());
    project.site.proxy.forward_auth = Some("http://172.16.10.103:4180/".to_owned());
    project.site.timezone = "Europe/Stockholm".to_owned();
    let qbittorrent = project.images.get_mut("qbittorrent").unwrap();
    qbittorrent.forward_auth = true;
    qbittorrent.container.firewall = true;
    qbittorrent.container.domain = "torrents.example.org".to_owned();
    project.images.get_mut("jellyfin").unwrap().container.address = Address::Dhcp;
    let wanted =
        ["traefik/build-images.yml", "dns/zone.txt", "dns/loopia.yml", "firewall/159.fw", "firewall/156.fw"];
    for file in files(&project).into_iter().filter(|file| wanted.contains(&file.path.as_str())) {
        insta::with_settings!({ omit_expression => true }, {
            insta::assert_snapshot!(format!("full__{}", file.path.replace(['/', '.'], "_")), file.contents);
        });
    }
}

/// An image whose address nobody knows has no router, and a site without images still has files that can be used.
#[test]
fn nothing_is_offered_of_what_is_not_known() {
    let mut project = project();
    for image in project.images.values_mut() {
        image.container.address = Address::Dhcp;
    }
    let text = |path: &str| files(&project).into_iter().find(|file| file.path == path).unwrap().contents;
    assert!(text("traefik/build-images.yml").ends_with("so there is no router for it.\n{}\n"));
    assert!(text("dns/loopia.yml").ends_with("loopia_dns_records: []\n"));
    assert!(!text("firewall/port-forward.nft").contains("dnat to"));
    assert!(!text("verify.sh").contains("    direct "));
}

/// What a recipe does not want in a backup is in none, and what is on the node is known by its mount.
#[test]
fn the_backup_has_what_recipes_declare() {
    let mut project = project();
    let list = |project: &build_images::model::Project| {
        let files = files(project);
        let list = files.into_iter().find(|file| file.path == "backup.list").unwrap().contents;
        list.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(list(&project).len(), 2);
    project.recipes.get_mut("jellyfin").unwrap().state[0].backup = false;
    let mount = &mut project.images.get_mut("qbittorrent").unwrap().mounts;
    mount.iter_mut().find(|mount| mount.state.is_some()).unwrap().source = "/srv/ssd/torrents".to_owned();
    assert_eq!(list(&project), ["qbittorrent\t159\t/srv/ssd/torrents\t/var/lib/qbittorrent"]);
    let script = files(&project).into_iter().find(|file| file.path == "backup.sh").unwrap().contents;
    assert!(script.contains("    qbittorrent) vmid=159; set -- '/srv/ssd/torrents' ;;\n"), "{script}");
    assert!(!script.contains("jellyfin"), "{script}");
}

/// A plan is keyed by what recipes and images serialise to: an edit of what only the site needs builds nothing anew.
#[test]
fn what_only_the_site_needs_is_in_no_plan() {
    let before = project();
    let mut after = before.clone();
    for recipe in after.recipes.values_mut() {
        recipe.ports.clear();
        if let Some(service) = &mut recipe.service {
            service.ready.path = "/other".to_owned();
            service.login = None;
            service.rate = 1;
            service.setup.iter_mut().for_each(|setup| setup.private.clear());
        }
    }
    for image in after.images.values_mut() {
        image.forward_auth = true;
        image.mounts.iter_mut().for_each(|mount| mount.owner = None);
    }
    assert_ne!(files(&before), files(&after));
    let keyed = |project: &build_images::model::Project| {
        serde_json::to_string(&(&project.recipes, &project.images)).unwrap()
    };
    assert_eq!(keyed(&before), keyed(&after));
}
