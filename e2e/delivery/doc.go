// Package delivery shows that what the kernel decides about real containers
// reaches a real Loki, whatever dies in between: enforcer, NATS, collectors and
// Loki are processes of their own here.
//
// EGW_OUTAGE is how long an outage may take, two seconds if it is not set.
package delivery
