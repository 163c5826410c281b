package policy

// ImplicitRule puts a decision that no rule of a policy made into words; ok is
// false for the number of a rule.
func ImplicitRule(number uint32) (text string, ok bool) {
	switch number {
	case RuleNone:
		return "no rule allows it", true
	case RuleResolver:
		return "docker's embedded resolver, which the label egress.dns=deny refuses", true
	case RuleReply:
		return "an answer to a peer that wrote first", true
	case RuleSocket:
		return "a socket of which nobody can tell where it sends to, which the label egress.raw=allow keeps", true
	case RuleOption:
		return "an option by which packets go elsewhere than they say", true
	}
	return "", number < RuleReserved
}
