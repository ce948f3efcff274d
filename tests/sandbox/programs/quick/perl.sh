# needs: perl
# says: 1,4,9,16

perl -e 'my %h = map { $_ => $_ ** 2 } 1..4; print join(",", map { $h{$_} } sort keys %h), "\n"'
