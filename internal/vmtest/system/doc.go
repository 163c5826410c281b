// Package system is what make vmtest-docker runs inside a Debian system with
// systemd and Docker: the README's path from labels to denial, what restarts
// leave, and the first instruction after a reboot. Its tests follow from each
// other, by boot: those named TestFirst, then those named TestSecond.
package system
