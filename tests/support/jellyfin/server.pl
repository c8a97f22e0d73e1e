#!/usr/bin/perl
# Stands in for Jellyfin's server in tests: start-up page, migration, wizard, health, and the checks that it makes
# before it starts, as far as they concern an image. It plays no media and is no Jellyfin.
use strict;
use warnings;

use IO::Select;
use IO::Socket::INET;
use POSIX ();

my $VERSION = '@VERSION@';
my ($MAJOR) = $VERSION =~ /^(\d+)/;
my $TWO_GIB = 2_147_483_647;
# How long start-up and a migration take, in seconds.
my ($START, $MIGRATION) = (3, 2);

$| = 1;
my $stop = 0;
$SIG{TERM} = $SIG{INT} = sub { $stop = 1 };
$SIG{PIPE} = 'IGNORE';

my %option = map { /^--([^=]+)=?(.*)$/s ? ($1 => $2) : () } @ARGV;
my %directory = (
    data   => $ENV{JELLYFIN_DATA_DIR}   // '/var/lib/jellyfin',
    config => $ENV{JELLYFIN_CONFIG_DIR} // '/etc/jellyfin',
    cache  => $ENV{JELLYFIN_CACHE_DIR}  // '/var/cache/jellyfin',
    log    => $ENV{JELLYFIN_LOG_DIR}    // '/var/log/jellyfin',
);
my $published = $ENV{JELLYFIN_PublishedServerUrl} // '';

sub make { my $path = shift; -d $path or mkdir $path or die_of("cannot make $path: $!") }
sub slurp { my $path = shift; open my $file, '<', $path or return; local $/; my $text = <$file>; $text }

sub spew {
    my ($path, $text) = @_;
    open my $file, '>', $path or die_of("cannot write $path: $!");
    print {$file} $text;
    close $file or die_of("cannot write $path: $!");
}

# In the file with a time and with quotes around what is filled in, on the console without, as in logging.json.
sub say_log {
    my ($level, $message, $source) = @_;
    $source //= 'Main';
    (my $plain = $message) =~ tr/"//d;
    print "[$level] $source: $plain\n";
    open my $file, '>>', "$directory{log}/log_" . POSIX::strftime('%Y%m%d', gmtime) . '.log' or return;
    print {$file} POSIX::strftime('[%Y-%m-%d %H:%M:%S.042 +00:00]', gmtime), " [$level] $source: $message\n";
}
sub die_of { say_log('FTL', $_[0]); exit 1 }

# --- What it needs of the system ---

if (!glob '/usr/lib/*/libicuuc.so.76') {
    print STDERR "Process terminated. Couldn't find a valid ICU package installed on the system.\n";
    exit 134;
}
my $web = $option{webdir} // '/usr/share/jellyfin/web';
-e "$web/index.html" || exists $option{nowebclient}
    or die_of("The server is expected to host the web client, but $web is either invalid or empty");
my ($ffmpeg) = (`$option{ffmpeg} -version 2>/dev/null` // '') =~ /^ffmpeg version (\S+)/;
$ffmpeg or die_of("FFmpeg: Failed version check: $option{ffmpeg}");

# --- Directories: each has one role, and none is full ---

sub marked {
    my ($path, $role) = @_;
    make($path);
    for my $other (glob "$path/.jellyfin-*") {
        $other eq "$path/.jellyfin-$role"
            or die_of("Expected to find only .jellyfin-$role but found marker for $other.");
    }
    spew("$path/.jellyfin-$role", '') if !-e "$path/.jellyfin-$role";
}
make($_) for $directory{data}, "$directory{data}/data", "$directory{data}/plugins";
marked($directory{config}, 'config');
marked($directory{log}, 'log');
marked("$directory{data}/plugins", 'plugin');
marked($directory{data}, 'data');
marked($directory{cache}, 'cache');
marked("$directory{data}/data", 'data');
for my $path ("$directory{data}/data", $directory{cache}, $directory{data}) {
    my ($free) = `df --output=avail -B1 '$path'` =~ /(\d+)\s*$/;
    ($free // 0) >= $TWO_GIB
        or die_of("The path `$path` has insufficient free space. Available: $free, Required: 2GiB.");
}

# --- Configuration: what is absent is written with Jellyfin's own defaults ---

my %default = (
    'network.xml' => '<NetworkConfiguration><InternalHttpPort>8096</InternalHttpPort>'
        . '<AutoDiscovery>true</AutoDiscovery><EnableUPnP>false</EnableUPnP><KnownProxies /></NetworkConfiguration>',
    'encoding.xml' => '<EncodingOptions><HardwareAccelerationType>none</HardwareAccelerationType></EncodingOptions>',
    'system.xml' =>
        '<ServerConfiguration><IsStartupWizardCompleted>false</IsStartupWizardCompleted></ServerConfiguration>',
);
sub setting {
    my ($file, $key) = @_;
    my $path = "$directory{config}/$file";
    spew($path, "$default{$file}\n") if !-e $path;
    my ($value) = slurp($path) =~ m{<$key>\s*(.*?)\s*</$key>}s;
    $value // '';
}
my $port = setting('network.xml', 'InternalHttpPort') || 8096;
my %proxy = map { $_ => 1 } setting('network.xml', 'KnownProxies') =~ m{<string>\s*([^<]*?)\s*</string>}g;
my $discovery = setting('network.xml', 'AutoDiscovery') eq 'true';
my $transcodes = setting('encoding.xml', 'TranscodingTempPath') || "$directory{cache}/transcodes";
make($transcodes);
my $complete = setting('system.xml', 'IsStartupWizardCompleted') eq 'true';
my $discoverer;
if ($discovery) {
    $discoverer = IO::Socket::INET->new(Proto => 'udp', LocalPort => 7359) or die_of("cannot listen on 7359: $!");
}

# --- The database: key=value lines, migrated in one direction ---

my $base = "$directory{data}/data/jellyfin.db";
my %base = (slurp($base) // '') =~ /^(\w+)=(.*)$/mg;
my ($schema) = ($base{version} // '') =~ /^(\d+)/;
sub save { spew("$base.new", join '', map { "$_=$base{$_}\n" } sort keys %base); rename "$base.new", $base }
if (!%base) {
    # Taken for an upgrade of a database that is not there.
    $complete and die_of('SQLite Error 1: no such table: __EFMigrationsHistory');
    %base = (version => $VERSION, made => $VERSION);
    save();
    $schema = $MAJOR;
}
my $unhealthy = $schema > $MAJOR || -e "$directory{data}/fail-migration";
my $ready = time + $START + ($schema < $MAJOR ? $MIGRATION : 0);

my $listener = IO::Socket::INET->new(LocalPort => $port, Listen => 64, ReuseAddr => 1)
    or die_of("cannot listen on $port: $!");
say_log('INF', "Jellyfin version: $VERSION (a stand-in for tests), ffmpeg $ffmpeg");
say_log('ERR', "the database is of $base{version}") if $schema > $MAJOR;

# --- Answers ---

sub json { my %is = @_; '{' . join(',', map { "\"$_\":$is{$_}" } sort keys %is) . '}' }
sub text { my $text = shift; $text =~ s/(["\\])/\\$1/g; "\"$text\"" }
sub info { json(Version => text($VERSION), ProductName => text('Jellyfin Server'), LocalAddress => text($published),
        StartupWizardCompleted => $_[0] ? 'true' : 'false') }

# While it starts, a server of its own answers everything.
sub setup_answer {
    my ($path) = @_;
    return $unhealthy ? (503, 'Unhealthy') : (200, 'Degraded') if $path eq '/health';
    # It says so even where the wizard was completed long ago.
    return (200, info(0)) if $path eq '/System/Info/Public' && time + 1 >= $ready;
    return (503, '<html>Jellyfin is starting</html>', 'Retry-After: 005');
}

sub answer {
    my ($method, $path, $query, $body, $client) = @_;
    my ($name, $password) = map { $body =~ /"$_"\s*:\s*"([^"]*)"/ ? $1 : '' } qw(Name Password);
    return (200, 'Healthy') if $path eq '/health';
    return (200, text('Jellyfin Server')) if $path eq '/System/Ping';
    return (200, info($complete)) if $path eq '/System/Info/Public';
    return (200, slurp("$web/index.html")) if $path =~ m{^/web/(index.html)?$};
    if ($path =~ m{^/Startup/}) {
        return (401, '') if $complete;
        if ("$method $path" eq 'GET /Startup/User') {
            $base{user} //= 'root';
            save();
            return (200, json(Name => text($base{user})));
        }
        if ("$method $path" eq 'POST /Startup/User') {
            return (404, '') if !defined $base{user};
            return (400, '') if $password eq '';
            return (403, '') if $MAJOR >= 12 && defined $base{password};
            @base{qw(user password)} = ($name, $password);
            save();
            return (204, '');
        }
        if ("$method $path" eq 'POST /Startup/Complete') {
            $complete = 1;
            (my $system = slurp("$directory{config}/system.xml"))
                =~ s{(<IsStartupWizardCompleted>)\w+}{$1true};
            spew("$directory{config}/system.xml", $system);
            return (204, '');
        }
    }
    if ("$method $path" eq 'POST /Users/AuthenticateByName') {
        ($name) = $body =~ /"Username"\s*:\s*"([^"]*)"/;
        ($password) = $body =~ /"Pw"\s*:\s*"([^"]*)"/;
        return (200, json(User => text($name)))
            if defined $base{password} && $name eq $base{user} && $password eq $base{password};
        say_log('INF', "Authentication request for \"$name\" has been denied (IP: \"$client\").",
            'Jellyfin.Server.Implementations.Users.UserManager');
        return (401, '');
    }
    # The stand-in's own: what the service can do with a file, and what it made of its configuration.
    if ($path eq '/stand-in/read') {
        my $text = slurp($query);
        return defined $text ? (200, $text) : (500, "$!");
    }
    if ($path eq '/stand-in/write') {
        open my $file, '>>', $query or return (500, "$!");
        return (204, '');
    }
    if ($path eq '/stand-in/facts') {
        return (200, json(ffmpeg => text($ffmpeg), transcodes => text($transcodes),
            acceleration => text(setting('encoding.xml', 'HardwareAccelerationType')),
            discovery => $discovery ? 'true' : 'false', user => text($base{user} // '')));
    }
    return (404, '');
}

sub converse {
    my ($client) = @_;
    my ($request, $wait) = ('', IO::Select->new($client));
    while ($request !~ /\r\n\r\n/ || length($request) < index($request, "\r\n\r\n") + 4 + length_of($request)) {
        return if length $request > 1 << 20 || !$wait->can_read(5);
        sysread($client, $request, 65536, length $request) or return;
    }
    my ($head, $body) = split /\r\n\r\n/, $request, 2;
    my ($method, $target) = $head =~ m{^(\w+) (\S+)} or return;
    my ($path, $query) = split /\?/, $target, 2;
    my ($forwarded) = $head =~ /^X-Forwarded-For:.*?([^,\s]+)\s*$/mi;
    my $from = $client->peerhost;
    $from = $forwarded if defined $forwarded && $proxy{$from};
    my ($status, $answer, @headers) =
        $unhealthy || time < $ready ? setup_answer($path) : answer($method, $path, $query // '', $body, $from);
    print {$client} join "\r\n", "HTTP/1.1 $status x", 'Connection: close', @headers,
        ($status == 204 ? () : 'Content-Length: ' . length $answer), '', $answer;
}
sub length_of { $_[0] =~ /^Content-Length:\s*(\d+)/mi ? $1 : 0 }

my $select = IO::Select->new($listener);
until ($stop) {
    if (!$unhealthy && $schema < $MAJOR && time >= $ready) {
        $base{version} = $VERSION;
        $base{migrated} = ($base{migrated} // 0) + 1;
        save();
        $schema = $MAJOR;
        say_log('INF', "the database is migrated to $VERSION");
    }
    $select->can_read(0.2) or next;
    my $client = $listener->accept or next;
    converse($client);
    close $client;
}
say_log('INF', 'Shutdown complete');
