package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// Ask is what a script says about one request.
type Ask struct {
	Body    string            `js:"body"`
	Headers map[string]string `js:"headers"`
	// After so many tokens the connection is closed; 0: never.
	HangUpAfter int `js:"hangUpAfter"`
	// Milliseconds after which the answer is given up; 0: never.
	Timeout int64 `js:"timeout"`
}

// Answer is what became of it. Times are in milliseconds, taken when a token's event has been read.
type Answer struct {
	Status int `js:"status"`
	// Names in lower case.
	Headers map[string]string `js:"headers"`
	// From the request to the first token.
	FirstToken float64 `js:"firstToken"`
	// Between each token and the one before.
	Gaps []float64 `js:"gaps"`
	// The longest of them.
	LongestGap float64 `js:"longestGap"`
	Tokens     int     `js:"tokens"`
	// Each token was the one that a counting program of the simulated upstream sends: t0, t1, t2 ...
	InOrder bool `js:"inOrder"`
	// The terminator came, and nothing after it.
	Done   bool `js:"done"`
	HungUp bool `js:"hungUp"`
	// Heartbeats and other comments.
	Comments int `js:"comments"`
	// The transport's failure, an in-band error, or the body of a refusal; empty if all went well.
	Error string `js:"error"`
}

// Read sends the request and reads the answer.
func Read(ctx context.Context, transport http.RoundTripper, url string, ask Ask) *Answer {
	answer := &Answer{InOrder: true, Headers: map[string]string{}}
	// Cancelling is what closes the connection of an answer that was not read to its end.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if ask.Timeout > 0 {
		ctx, cancel = context.WithTimeout(ctx, time.Duration(ask.Timeout)*time.Millisecond)
		defer cancel()
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(ask.Body))
	if err != nil {
		answer.Error = err.Error()
		return answer
	}
	for name, value := range ask.Headers {
		request.Header.Set(name, value)
	}
	start := time.Now()
	response, err := transport.RoundTrip(request)
	if err != nil {
		answer.Error = err.Error()
		return answer
	}
	defer response.Body.Close()
	answer.Status = response.StatusCode
	for name, values := range response.Header {
		answer.Headers[strings.ToLower(name)] = strings.Join(values, ", ")
	}
	if response.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(response.Body, 1<<16))
		answer.Error = string(body)
		return answer
	}
	answer.events(bufio.NewReaderSize(response.Body, 1<<12), ask, start)
	return answer
}

// events reads until the body ends, breaks, or enough tokens are there.
func (a *Answer) events(body *bufio.Reader, ask Ask, start time.Time) {
	last := start
	for {
		line, err := body.ReadSlice('\n')
		if err == io.EOF {
			if !a.Done && a.Error == "" {
				a.Error = "the stream ended without [DONE]"
			}
			return
		}
		if err != nil {
			a.Error = err.Error()
			return
		}
		if bytes.HasPrefix(line, []byte(":")) {
			a.Comments++
		}
		data, found := bytes.CutPrefix(bytes.TrimSpace(line), []byte("data: "))
		if !found {
			continue
		}
		if a.Done {
			a.Done, a.Error = false, "data after [DONE]"
			return
		}
		for range a.event(data) {
			now := time.Now()
			a.token(last, now)
			last = now
		}
		if ask.HangUpAfter > 0 && a.Tokens >= ask.HangUpAfter {
			a.HungUp = true
			return
		}
	}
}

// event reads the payload of one event, and says how many tokens are in it.
func (a *Answer) event(data []byte) int {
	if string(data) == "[DONE]" {
		a.Done = true
		return 0
	}
	var chunk struct {
		Choices []struct {
			Delta struct {
				Content string `json:"content"`
			} `json:"delta"`
		} `json:"choices"`
		Error *struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	if err := json.Unmarshal(data, &chunk); err != nil {
		a.Error = "not JSON: " + err.Error()
		return 0
	}
	if chunk.Error != nil {
		a.Error = chunk.Error.Message
		return 0
	}
	count := 0
	for _, choice := range chunk.Choices {
		for _, word := range strings.Fields(choice.Delta.Content) {
			a.InOrder = a.InOrder && word == fmt.Sprintf("t%d", a.Tokens+count)
			count++
		}
	}
	return count
}

func (a *Answer) token(last, now time.Time) {
	elapsed := float64(now.Sub(last).Microseconds()) / 1000
	a.Tokens++
	if a.Tokens == 1 {
		a.FirstToken = elapsed
		return
	}
	a.Gaps = append(a.Gaps, elapsed)
	a.LongestGap = max(a.LongestGap, elapsed)
}
