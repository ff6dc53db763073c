// Package registry moves images between a registry and the store: the pull and
// push halves of the OCI distribution spec (v1.1), over net/http.
//
// It is apart from package image because net/http and crypto/tls cost every
// command that links them 1.4 ms of start-up. The protocol is written out here
// and not taken from a library: pulling needs ranges, so that a broken
// connection goes on where it stopped, and layers must flow from the socket
// into the unpacker without a file in between.
package registry
