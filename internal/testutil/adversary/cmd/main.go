// Command adversary tries every way out of a container.
package main

import (
	"os"

	"github.com/egresswarden/egresswarden/internal/testutil/adversary"
)

func main() { os.Exit(adversary.Main(os.Args[1:], os.Stdout, os.Stderr)) }
