//go:build tools

// Package tools names the programs that this module pins: `go mod tidy` keeps what they need in go.mod and go.sum.
package tools

import (
	_ "github.com/summerwind/h2spec/cmd/h2spec"
)
