package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func read(t *testing.T, ask Ask, answer func(http.ResponseWriter, *http.Request)) *Answer {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(answer))
	defer server.Close()
	return Read(context.Background(), http.DefaultTransport, server.URL, ask)
}

func token(number int) string {
	return fmt.Sprintf("data: {\"choices\":[{\"delta\":{\"content\":\"t%d \"}}]}\n\n", number)
}

func says(text string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) }
}

func TestAWholeAnswer(t *testing.T) {
	got := read(t, Ask{}, says(": ping\n"+token(0)+token(1)+token(2)+"data: [DONE]\n\n"))
	if got.Status != 200 || got.Tokens != 3 || !got.InOrder || !got.Done || got.Error != "" {
		t.Fatalf("%+v", got)
	}
	if len(got.Gaps) != 2 || got.FirstToken <= 0 || got.Comments != 1 {
		t.Fatalf("%+v", got)
	}
}

func TestWhatIsWrongIsSeen(t *testing.T) {
	for text, words := range map[string]string{
		token(0): "without [DONE]",
		token(0) + "data: {\"error\":{\"message\":\"overloaded\"}}\n\n": "overloaded",
		"data: [DONE]\n\n" + token(0):                                   "after [DONE]",
		"data: {\n\n":                                                   "not JSON",
	} {
		if got := read(t, Ask{}, says(text)); !strings.Contains(got.Error, words) || got.Done {
			t.Errorf("%q: %+v", text, got)
		}
	}
	if got := read(t, Ask{}, says(token(0)+token(2)+"data: [DONE]\n\n")); got.InOrder {
		t.Errorf("a missing token: %+v", got)
	}
}

func TestARefusal(t *testing.T) {
	got := read(t, Ask{}, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(429)
		fmt.Fprint(w, "slow down")
	})
	if got.Status != 429 || got.Headers["retry-after"] != "7" || got.Error != "slow down" {
		t.Fatalf("%+v", got)
	}
}

func TestHangingUpClosesTheConnection(t *testing.T) {
	gone := make(chan struct{})
	got := read(t, Ask{HangUpAfter: 2}, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, token(0)+token(1))
		w.(http.Flusher).Flush()
		select {
		case <-r.Context().Done():
			close(gone)
		case <-time.After(10 * time.Second):
		}
	})
	if !got.HungUp || got.Done || got.Tokens != 2 || got.Error != "" {
		t.Fatalf("%+v", got)
	}
	select {
	case <-gone:
	case <-time.After(10 * time.Second):
		t.Fatal("the server still holds the connection")
	}
}
