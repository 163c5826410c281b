// Package e2e holds the tests of the whole: the programs as built, a Docker
// engine of the tests' own, and a network that answers for the internet. See
// package world for why nothing leaves the machine.
package e2e
