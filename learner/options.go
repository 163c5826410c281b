package learner

import "time"

// Options are the learner's parameters; the zero of each means its default.
type Options struct {
	// RuleCost is how many addresses never seen one rule less is worth.
	RuleCost float64
	// Cap4 and Cap6 are the shortest prefixes that are proposed.
	Cap4, Cap6 int
	// Solid is how long an address must have been seen to support widening.
	Solid time.Duration
	// Unused is the age at which a rule that nothing uses is proposed for
	// removal.
	Unused time.Duration
	// Window is how long evidence is kept after it was last seen.
	Window time.Duration
	Limits Limits
}

// Limits bound the learner's memory and what it asks of people.
type Limits struct {
	// Destinations of one policy; Total of all of them.
	Destinations, Total int
	// Names of processes, hosts and containers told apart.
	Names int
	// Open proposals of one policy; the ones with the most decisions come first.
	Open int
	// WidePorts is how many ports of an address are listed.
	WidePorts int
}

// DefaultOptions are the defaults.
func DefaultOptions() Options {
	const day = 24 * time.Hour
	return Options{RuleCost: 12, Cap4: 24, Cap6: 64, Solid: time.Hour, Unused: 30 * day, Window: 30 * day,
		Limits: Limits{Destinations: 100_000, Total: 2_000_000, Names: 60_000, Open: 500, WidePorts: 15}}
}

func (o Options) withDefaults() Options {
	d := DefaultOptions()
	or(&o.RuleCost, d.RuleCost)
	or(&o.Cap4, d.Cap4)
	or(&o.Cap6, d.Cap6)
	or(&o.Solid, d.Solid)
	or(&o.Unused, d.Unused)
	or(&o.Window, d.Window)
	or(&o.Limits.Destinations, d.Limits.Destinations)
	or(&o.Limits.Total, d.Limits.Total)
	or(&o.Limits.Names, d.Limits.Names)
	or(&o.Limits.Open, d.Limits.Open)
	or(&o.Limits.WidePorts, d.Limits.WidePorts)
	return o
}

func or[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}
