//go:build !cgo

package container

const builtWithCgo = false
