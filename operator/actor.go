package operator

import (
	"os"
	"os/user"
	"strconv"
)

// LocalActor names who runs this process: the user, or with sudo the one who
// called it, as "alice via sudo". SUDO_USER is believed of root alone: anybody
// else could write it.
func LocalActor(env func(string) string) string {
	return actorName(os.Geteuid(), env("SUDO_USER"), func(uid int) string {
		u, err := user.LookupId(strconv.Itoa(uid))
		if err != nil {
			return ""
		}
		return u.Username
	})
}

func actorName(euid int, sudo string, lookup func(int) string) string {
	name := lookup(euid)
	if name == "" {
		name = "uid " + strconv.Itoa(euid)
	}
	if euid == 0 && sudo != "" && sudo != name {
		return sudo + " via sudo"
	}
	return name
}
