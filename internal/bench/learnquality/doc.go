// Package learnquality measures how good the learner's rules are on generated
// traffic, beside three ways to write rules without optimising: one rule per
// address, fixed /24s (and /64s), and the minimal cover that admits exactly the
// addresses seen.
//
// What counts: decisions of later traffic that the rules deny wrongly,
// addresses that they admit and no legitimate traffic ever uses, addresses of
// an attacker that was active while learning, and the number of rules.
package learnquality
