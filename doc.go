// Package berth holds no code: start at cmd/berth for the program, at runtime
// for the library, at docs/design.md for the story.
package berth
