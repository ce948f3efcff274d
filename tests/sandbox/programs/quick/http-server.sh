# says: 200

"$python" - <<'END'
import functools, http.server, threading, urllib.request

handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory="/etc")
handler.func.log_message = lambda *_: None
server = http.server.ThreadingHTTPServer(("127.0.0.1", 80), handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(urllib.request.urlopen("http://localhost/hostname").status)
END
