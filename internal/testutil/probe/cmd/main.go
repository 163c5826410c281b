// Command probe dials, serves and resolves inside the containers of tests.
package main

import (
	"os"

	"github.com/egresswarden/egresswarden/internal/testutil/probe"
)

func main() { os.Exit(probe.Main(os.Args[1:], os.Stdout, os.Stderr)) }
