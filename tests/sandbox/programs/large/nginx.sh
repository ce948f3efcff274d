# needs: nginx
# says: served

mkdir www && echo served >www/index.html
cat >conf <<END
user root; pid $PWD/pid; error_log $PWD/log;
events {}
http { access_log off; server { listen 80; root $PWD/www; } }
END
nginx -c "$PWD/conf" -e "$PWD/log"
"$python" -c 'import urllib.request as r; print(r.urlopen("http://127.0.0.1/").read().decode(), end="")'
