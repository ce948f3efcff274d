# needs: dpkg dpkg-deb
# says: p 1

mkdir -p p/DEBIAN
cat >p/DEBIAN/control <<'END'
Package: p
Version: 1
Architecture: all
Maintainer: a
Description: p
END
dpkg-deb -b p p.deb >/dev/null && dpkg -i p.deb >/dev/null 2>&1
dpkg-query -W p | tr '\t' ' '
