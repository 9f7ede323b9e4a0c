package config

import "errors"

// notYet lists the variables that the table promises and this version does nothing with. They are refused when set, never silently
// ignored. A row goes when its feature comes.
var notYet = map[string]bool{"KPUSH_PUBLISH_SPOOL": true}

// refuseNotYet refuses them, and keeps them from being looked at any further.
func (l *loader) refuseNotYet() {
	for name := range notYet {
		if l.given(name) {
			l.problems[name] = []error{errors.New(name + " is not supported yet; leave it unset")}
			delete(l.vars, name)
		}
	}
}
