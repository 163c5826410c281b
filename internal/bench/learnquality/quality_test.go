package learnquality

import "testing"

const workloads = 10

func scores(tb testing.TB) map[string]Score {
	tb.Helper()
	out := map[string]Score{}
	for seed := range uint64(workloads) {
		t := Generate(seed)
		for _, m := range Methods() {
			s, err := Rate(m, t)
			if err != nil {
				tb.Fatalf("%s: %v", m.Name, err)
			}
			sum := out[m.Name]
			sum.Add(s)
			out[m.Name] = sum
		}
	}
	return out
}

func TestLearnerIsBetterThanTheBaselines(t *testing.T) {
	s := scores(t)
	for _, m := range Methods() {
		r := s[m.Name]
		t.Logf("%-32s %6.1f rules per policy, %6.3f %% false denials, %8.1f unused, %6.1f of the attacker's", m.Name,
			float64(r.Rules)/workloads, 100*float64(r.FalseDenials)/float64(r.Decisions), float64(r.Unused)/workloads,
			float64(r.Attacker)/workloads)
	}
	l, careful := s["learner"], s["learner, less single sightings"]
	exact, fixed, minimal := s["exact addresses"], s["fixed /24 and /64"], s["minimal exact cover"]
	if l.FalseDenials >= exact.FalseDenials || l.FalseDenials >= minimal.FalseDenials {
		t.Errorf("false denials: %d, exact rules have %d and %d", l.FalseDenials, exact.FalseDenials, minimal.FalseDenials)
	}
	if l.Unused >= fixed.Unused/10 {
		t.Errorf("%d addresses admitted and never used, fixed /24s have %d", l.Unused, fixed.Unused)
	}
	if l.Rules >= exact.Rules || l.Rules >= minimal.Rules {
		t.Errorf("%d rules, exact rules have %d and %d", l.Rules, exact.Rules, minimal.Rules)
	}
	if l.Attacker > minimal.Attacker {
		t.Errorf("%d addresses of the attacker, an exact cover has %d", l.Attacker, minimal.Attacker)
	}
	if careful.Attacker*5 > minimal.Attacker || careful.Rules*4 > exact.Rules {
		t.Errorf("without single sightings: %+v", careful)
	}
}

func BenchmarkQuality(b *testing.B) {
	for _, m := range Methods() {
		b.Run(m.Name, func(b *testing.B) {
			var sum Score
			n := 0
			for b.Loop() {
				s, err := Rate(m, Generate(uint64(n%workloads)))
				if err != nil {
					b.Fatal(err)
				}
				sum.Add(s)
				n++
			}
			per := func(x float64) float64 { return x / float64(n) }
			b.ReportMetric(per(float64(sum.Rules)), "rules/policy")
			b.ReportMetric(100*float64(sum.FalseDenials)/float64(sum.Decisions), "%-false-denials")
			b.ReportMetric(per(float64(sum.Unused)), "unused-addresses/policy")
			b.ReportMetric(per(float64(sum.Attacker)), "attacker-addresses/policy")
		})
	}
}
