# Asks the reverse proxy for a name, encrypted where Perl can do that, and says the status that it answers with. A proxy
# looks now and then whether what is behind it works, so one that does not reach it is asked again for a while.
use strict;
use warnings;
use IO::Socket::INET;

my ($proxy, $domain, $path, $patience) = @ARGV;
my $encrypted = eval { require IO::Socket::SSL; 1 };

sub ask {
    local $SIG{ALRM} = sub { die "no answer in time\n" };
    alarm 10;
    # Whose certificate it has is for its clients to check.
    my $socket = $encrypted
        ? IO::Socket::SSL->new(PeerAddr => $proxy, PeerPort => 443, Timeout => 5, SSL_hostname => $domain, SSL_verify_mode => 0)
        : IO::Socket::INET->new(PeerAddr => $proxy, PeerPort => 80, Timeout => 5);
    $socket or die "silent\n";
    print {$socket} "GET $path HTTP/1.0\r\nHost: $domain\r\nConnection: close\r\n\r\n";
    my $line = <$socket>;
    ($line // '') =~ m{^HTTP/\S+ (\d+)} ? $1 : die "silent\n";
}

my ($end, $status) = (time + $patience);
while (1) {
    $status = eval { ask() };
    alarm 0;
    last if !defined $status || $status !~ /^50[234]$/ || time >= $end;
    sleep 1;
}
print '@ proxy ', $status // 'silent', ' ', $encrypted ? 'https' : 'http', "\n";
