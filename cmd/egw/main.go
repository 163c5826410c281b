// Command egw is the operator's view of egresswarden: what containers talk to,
// what they may, and how to change it.
package main

import (
	"os"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Getenv))
}
