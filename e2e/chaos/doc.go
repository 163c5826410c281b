// Package chaos holds tests that kill the processes of a host at random and
// lose their event log, without Docker.
package chaos
