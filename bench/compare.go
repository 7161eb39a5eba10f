package main

import (
	"context"
	"errors"
)

func runCompare(context.Context, []string) error { return errors.New("later") }
