# Starting a container of LXC as Proxmox does: what it writes into the root file system (Setup/{Base,Debian}.pm), and the
# configuration that it makes (LXC.pm, update_lxc_config). In: parsed configuration, root, network card, id, LXC's name.
use strict;
use warnings;

sub write_into {
    my ($root, $path, $text) = @_;
    # No link on the way is followed out of the root file system.
    my $here = $root;
    for my $part (split m{/}, $path =~ s{/[^/]+$}{}r) {
        $here .= "/$part";
        -d $here && !-l $here or fail("$here is no directory");
    }
    unlink "$root/$path";
    spew("$root/$path", $text);
    chown 100_000, 100_000, "$root/$path";
    chmod 0644, "$root/$path";
}

sub section {
    my ($root, $path, $text) = @_;
    my $old = slurp("$root/$path") // '';
    $old =~ s/# --- BEGIN PVE ---\n.*?# --- END PVE ---\n//s;
    write_into($root, $path, "$old# --- BEGIN PVE ---\n$text# --- END PVE ---\n");
}

sub pre_start {
    my ($conf, $root, $net) = @_;
    my $hostname = $conf->{hostname} =~ s/\..*//r;
    my ($address) = $net->{ip} =~ m{^([\d.]+)/};
    my $names = $conf->{searchdomain} ? "$hostname.$conf->{searchdomain} $hostname" : $hostname;
    write_into($root, 'etc/hostname', "$hostname\n");
    section($root, 'etc/hosts', "$address $names\n");
    my $resolver = $conf->{searchdomain} ? "search $conf->{searchdomain}\n" : '';
    $resolver .= "nameserver $_\n" for split ' ', $conf->{nameserver} // '';
    (slurp("$root/etc/resolv.conf") // '') =~ /BEGIN PVE/ or write_into($root, 'etc/resolv.conf', '');
    section($root, 'etc/resolv.conf', $resolver);
    write_into($root, 'etc/network/interfaces', "auto lo\niface lo inet loopback\n\nauto $net->{name}\n"
            . "iface $net->{name} inet static\n\taddress $net->{ip}\n\tgateway $net->{gw}\n");
    -d "$root/etc/systemd/system-preset" or mkdir "$root/etc/systemd/system-preset";
    write_into($root, 'etc/systemd/system-preset/00-pve.preset', "# Added by PVE\nenable container-getty\@.service\n"
            . "disable getty\@.service\ndisable sys-kernel-config.mount\ndisable sys-kernel-debug.mount\n"
            . "disable systemd-networkd.service\n");
}

sub start_lxc {
    my ($conf, $root, $net, $vmid, $name) = @_;
    ($conf->{unprivileged} // 0) eq '1' or fail('this stand-in has no privileged containers');
    pre_start($conf, $root, $net);
    my $file = "/mnt/lxc/$vmid.conf";
    my @lines = (
        'lxc.include = /usr/share/lxc/config/debian.common.conf',
        'lxc.include = /usr/share/lxc/config/debian.userns.conf',
        ($conf->{features} // '') =~ /nesting=1/ ? 'lxc.include = /usr/share/lxc/config/nesting.conf' : (),
        'lxc.apparmor.profile = unconfined',
        'lxc.arch = amd64',
        "lxc.uts.name = $conf->{hostname}",
        'lxc.idmap = u 0 100000 65536',
        'lxc.idmap = g 0 100000 65536',
        "lxc.rootfs.path = dir:$root",
        'lxc.net.0.type = veth',
        'lxc.net.0.flags = up',
        "lxc.net.0.link = $net->{bridge}",
        "lxc.net.0.name = $net->{name}",
        "lxc.net.0.hwaddr = $net->{hwaddr}",
    );
    for my $key (sort grep { /^mp\d+$/ } keys %$conf) {
        my $mount = properties($conf->{$key});
        my $options = ($mount->{ro} // 0) eq '1' ? 'bind,ro,create=dir' : 'bind,create=dir';
        push @lines, "lxc.mount.entry = $mount->{volume} " . $mount->{mp} =~ s{^/}{}r . " none $options 0 0";
    }
    spew($file, join "\n", @lines, '');
    # What this has open, locks among it, is not the monitor's.
    system('lxc-start', '-P', '/mnt/lxc', '-n', $name, '-f', $file, '-d', '-o', "/mnt/lxc/$vmid.log", '-l', 'INFO') == 0
        or fail("startup for container '$vmid' failed");
}
1;
