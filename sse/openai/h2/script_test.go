package h2_test

import (
	"errors"
	"testing"
)

func mustFail(t testing.TB, a *answer, want error) {
	t.Helper()
	if !errors.Is(a.err, want) {
		t.Fatalf("%v; want %v", a, want)
	}
}
