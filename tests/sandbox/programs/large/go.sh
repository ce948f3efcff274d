# needs: go
# says: 42
# says: tested

export HOME=$PWD GOFLAGS=-mod=mod GOCACHE=$PWD/cache GO111MODULE=on
mkdir -p m/sub && cd m
echo 'module example.org/m' >go.mod
cat >sub/sub.go <<'END'
package sub

func Answer() int { return 42 }
END
cat >sub/sub_test.go <<'END'
package sub

import "testing"

func TestIt(t *testing.T) {
	if Answer() != 42 {
		t.Fail()
	}
}
END
cat >main.go <<'END'
package main

import (
	"fmt"

	"example.org/m/sub"
)

func main() { fmt.Println(sub.Answer()) }
END
go build -o program . && ./program && go test ./sub >/dev/null && echo tested
