# needs: git
# says: one

git init -q a && cd a
git config user.email a@example.org
git config user.name A
echo 1 >f && git add f && git commit -qm one
git clone -q . ../b && git -C ../b gc -q && git -C ../b log --format=%s
