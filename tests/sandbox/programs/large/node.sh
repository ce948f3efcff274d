# needs: node npm
# says: 42

export HOME=$PWD npm_config_update_notifier=false npm_config_audit=false npm_config_fund=false
mkdir dep app
echo '{"name": "dep", "version": "1.0.0", "main": "i.js"}' >dep/package.json
echo 'module.exports = 42' >dep/i.js
cd app
cat >package.json <<'END'
{"name": "app", "version": "1.0.0", "scripts": {"build": "node b.js"}, "dependencies": {"dep": "file:../dep"}}
END
cat >b.js <<'END'
const {Worker} = require("worker_threads");
new Worker("console.log(require('dep'))", {eval: true});
END
npm install --offline --silent >/dev/null && npm run --silent build
