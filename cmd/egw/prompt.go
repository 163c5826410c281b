package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
)

// prompt asks questions on the standard error and reads a line for each.
type prompt struct {
	in  *bufio.Reader
	out io.Writer
}

func newPrompt(a *app) *prompt {
	in := a.stdin
	if in == nil {
		in = strings.NewReader("")
	}
	return &prompt{bufio.NewReader(in), a.stderr}
}

// ask gives the answer without spaces around; io.EOF when there is none.
func (p *prompt) ask(question string) (string, error) {
	if _, err := fmt.Fprint(p.out, question); err != nil {
		return "", err
	}
	line, err := p.in.ReadString('\n')
	if errors.Is(err, io.EOF) && line != "" {
		err = nil
	}
	return strings.TrimSpace(line), err
}
