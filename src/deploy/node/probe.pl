# Asks an application until it works, by its recipe's rules: exit status 0 when it does, 3 when it also waits to be set
# up, 1 when it answers something else or says nothing for too long. Arguments are `key=value`; `starting` begins a rule
# for answers that mean: not yet. What is judged how is the same as in src/model/probe.rs.
use strict;
use warnings;
use IO::Socket::INET;
use Time::HiRes qw(sleep time);

$| = 1;
my (%good, %setup, @starting, $rule);
my ($address, $port, $container) = ('', 80, '');
$rule = \%good;
while (@ARGV) {
    my ($key, $value) = split /=/, shift, 2;
    $value = '' if !defined $value;
    if ($key eq 'address') { $address = $value }
    elsif ($key eq 'container') { $container = $value }
    elsif ($key eq 'port') { $port = $value }
    elsif ($key eq 'starting') { $rule = {}; push @starting, $rule }
    elsif ($key eq 'setup') { $rule = \%setup }
    elsif ($key eq 'status') { $rule->{status}{$_} = 1 for split /,/, $value }
    else { $rule->{$key} = $value }
}

sub ask {
    my ($path) = @_;
    my $answer = eval {
        local $SIG{ALRM} = sub { die "no answer in time\n" };
        alarm 10;
        # It may take a while until somebody gives it an address.
        ($address) = (`pct exec $container -- hostname -I 2>/dev/null` // '') =~ /(\d+(?:\.\d+){3})/ if $container ne '' && !$address;
        $address or die "silent\n";
        my $socket = IO::Socket::INET->new(PeerAddr => $address, PeerPort => $port, Timeout => 5) or die "silent\n";
        print {$socket} "GET $path HTTP/1.0\r\nHost: $address:$port\r\nConnection: close\r\n\r\n";
        my $text = '';
        while (length $text < 1 << 20) {
            sysread($socket, $text, 65536, length $text) or last;
        }
        alarm 0;
        my ($head, $body) = split /\r?\n\r?\n/, $text, 2;
        my ($status) = ($head // '') =~ m{^HTTP/\S+ (\d+)} or die "silent\n";
        # A server may send chunks although nobody asked for them.
        if ($head =~ /^Transfer-Encoding:\s*chunked/mi) {
            my $whole = '';
            while ($body =~ s/^([0-9a-fA-F]+)[^\r\n]*\r?\n//) {
                my $length = hex $1 or last;
                $whole .= substr $body, 0, $length, '';
                $body =~ s/^\r?\n//;
            }
            $body = $whole;
        }
        [$status, $body // ''];
    };
    alarm 0;
    return $answer;
}

sub body_fits {
    my ($rule, $body) = @_;
    if (defined $rule->{body}) {
        (my $expected = $rule->{body}) =~ s/[\r\n]+\z//;
        $body =~ s/[\r\n]+\z//;
        return $body eq $expected;
    }
    return index($body, $rule->{contains}) >= 0 if defined $rule->{contains};
    return 1;
}

sub fits {
    my ($rule, $answer) = @_;
    return (!$rule->{status} || $rule->{status}{ $answer->[0] }) && body_fits($rule, $answer->[1]);
}

sub shown {
    my ($answer) = @_;
    (my $body = substr $answer->[1], 0, 200) =~ s/[^\x20-\x7e]+/ /g;
    return "$answer->[0] $body";
}

# One look: (word, how long to be patient, what was said).
sub look {
    my $answer = ask($good{path});
    return ('starting', $good{patience}, '') if !$answer;
    if (fits(\%good, $answer)) {
        return ('healthy') if !%setup;
        my $said = ask($setup{path});
        return ('starting', $good{patience}, $said ? shown($said) : '') if !$said || !$setup{status}{ $said->[0] };
        return (body_fits(\%setup, $said->[1]) ? 'needs-setup' : 'healthy');
    }
    for my $rule (@starting) {
        return ('starting', $rule->{patience}, shown($answer)) if fits($rule, $answer);
    }
    return ('failed', 0, shown($answer));
}

my ($begun, $last) = (time, '');
while (1) {
    my ($word, $patience, $said) = look();
    if ($word eq 'healthy') { print "@ health healthy\n"; exit 0 }
    if ($word eq 'needs-setup') { print "@ health needs-setup\n"; exit 3 }
    if ($word eq 'failed') { print "it answers $said\n"; exit 1 }
    # Each way of saying `not yet` has a patience of its own.
    if ($said ne $last) {
        print "it is starting and says: $said\n" if $said ne '';
        ($begun, $last) = (time, $said);
    }
    if (time - $begun > $patience) {
        print $said eq '' ? "nobody answered for $patience s\n" : "for $patience s it has said $said\n";
        exit 1;
    }
    sleep 0.25;
}
