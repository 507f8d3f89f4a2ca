// k6 with one module more, `k6/x/chatstream`: k6's own HTTP client hands out a body when it has all
// of it, which says nothing of when each token came.
package main

import (
	"go.k6.io/k6/cmd"
	"go.k6.io/k6/js/modules"
)

func init() { modules.Register("k6/x/chatstream", module{}) }

func main() { cmd.Execute() }

type module struct{}

type instance struct{ vu modules.VU }

func (module) NewModuleInstance(vu modules.VU) modules.Instance { return &instance{vu: vu} }

func (i *instance) Exports() modules.Exports {
	return modules.Exports{Named: map[string]any{"chat": i.chat}}
}

// chat sends a request for a streamed OpenAI chat completion and reads the answer to its end, or
// hangs up earlier. It blocks its virtual user, who is one caller.
func (i *instance) chat(url string, ask Ask) *Answer {
	state := i.vu.State()
	if state == nil {
		return &Answer{Error: "chat() belongs into a scenario's function, not into the script's start"}
	}
	return Read(i.vu.Context(), state.Transport, url, ask)
}
