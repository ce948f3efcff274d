# needs: openssl
# says: c: OK

openssl req -x509 -newkey rsa:2048 -nodes -keyout k -out c -subj /CN=x 2>/dev/null && openssl verify -CAfile c c
