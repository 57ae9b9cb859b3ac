#!/bin/bash
# Build local/apache/kafka:4.3.1 where no image registry can be reached: Apache's jars on a Java run-time of this machine.
#
#   build-image.sh JARS     (needs: a container engine, a JDK with jlink, busybox-static; no root)
#
# The same broker behind the same settings as Apache's image, and not Apache's image: hence the name.
set -euo pipefail
jars=$(cd "$1" && pwd) image=local/apache/kafka:4.3.1 here=$(cd "$(dirname "$0")" && pwd)
root=$(mktemp -d) natives=$(mktemp -d)
trap 'rm -rf "$root" "$natives"' EXIT
chmod 755 "$root"

mkdir -p "$root"/{bin,opt/kafka/libs,var/lib/kafka/data,etc,tmp,proc,sys,dev}
chmod 1777 "$root/tmp"
modules=java.base,java.desktop,java.logging,java.management,java.management.rmi,java.naming,java.security.jgss
modules+=,java.security.sasl,java.sql,java.xml,jdk.crypto.ec,jdk.management,jdk.unsupported,jdk.zipfs
jlink --add-modules "$modules" --strip-java-debug-attributes --no-header-files --no-man-pages --output "$root/opt/java"
"$root/opt/java/bin/java" -XX:+UseSerialGC -Xshare:dump >/dev/null # from outside: java needs /proc

# the C libraries that this Java is linked to, and what the jars bring for their compressions, where they look for them
# (the jars bring libraries of other machines too, which ldd refuses)
for jar in "$jars"/{zstd-jni,snappy-java,lz4-java}-*.jar; do
  (cd "$natives" && jar xf "$jar")
done
{ find "$root/opt/java" "$natives" -type f \( -name '*.so' -o -name java \) -exec ldd {} + 2>/dev/null || true; } |
  grep -o '/[^ ]*\.so[^ ]*' | grep -v -e "^$root" -e "^$natives" | sort -u | while IFS= read -r library; do
    [ -e "$library" ] && mkdir -p "$root${library%/*}" && cp -L "$library" "$root$library"
  done

cp "$(command -v busybox)" "$root/bin/busybox"
"$root/bin/busybox" --list | while IFS= read -r applet; do
  [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
done
cp "$jars"/*.jar "$root/opt/kafka/libs/"
cp "$here/log4j2.yaml" "$here/image/run" "$root/opt/kafka/"
echo 'root:x:0:0:root:/:/bin/sh' >"$root/etc/passwd"
echo 'root:x:0:' >"$root/etc/group"
echo '127.0.0.1 localhost' >"$root/etc/hosts"
echo 'hosts: files dns' >"$root/etc/nsswitch.conf"

tar -C "$root" --numeric-owner --owner=0 --group=0 -c . |
  docker import -c 'ENV PATH=/opt/java/bin:/bin' -c 'CMD ["/opt/kafka/run"]' - "$image" >/dev/null
echo "$image"
