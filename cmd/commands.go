package cmd

import (
	"strings"

	"github.com/urfave/cli/v2"
)

// entry is one command, or a group of them.
type entry struct {
	name     string
	about    string
	build    func(*app) *cli.Command
	min, max int            // number of arguments; max -1: any
	literal  bool           // flags end at the first argument
	hidden   bool           // not in help
	sub      func() []entry // of a group
}

// table lists all commands, in the order help shows them. It is a function
// because help itself, which commands call, reads it.
func table() []entry { return append(single(), groups()...) }

// single lists the commands of one word.
func single() []entry {
	return []entry{
		{name: "run", about: "create and run a new container from an image", build: (*app).runCommand, min: 1, max: -1, literal: true},
		{name: "exec", about: "run a command in a running container", build: (*app).execCommand, min: 2, max: -1, literal: true},
		{name: "ps", about: "list containers", build: (*app).psCommand},
		{name: "pull", about: "download an image from a registry", build: (*app).pullCommand, min: 1, max: 1},
		{name: "images", about: "list images", build: (*app).imagesCommand, max: 1},
		{name: "create", about: "create a new container", build: (*app).createCommand, min: 1, max: -1, literal: true},
		{name: "start", about: "start one or more stopped containers", build: (*app).startCommand, min: 1, max: -1},
		{name: "stop", about: "stop one or more running containers", build: (*app).stopCommand, min: 1, max: -1},
		{name: "restart", about: "restart one or more containers", build: (*app).restartCommand, min: 1, max: -1},
		{name: "kill", about: "send a signal to one or more running containers", build: (*app).killCommand, min: 1, max: -1},
		{name: "rm", about: "remove one or more containers", build: (*app).rmCommand, min: 1, max: -1},
		{name: "pause", about: "pause all processes of one or more containers", build: (*app).pauseCommand, min: 1, max: -1},
		{name: "unpause", about: "unpause all processes of one or more containers", build: (*app).unpauseCommand, min: 1, max: -1},
		{name: "wait", about: "block until containers stop, then print their exit codes", build: (*app).waitCommand, min: 1, max: -1},
		{name: "rename", about: "rename a container", build: (*app).renameCommand, min: 2, max: 2},
		{name: "update", about: "change limits or the restart policy of containers", build: (*app).updateCommand, min: 1, max: -1},
		{name: "attach", about: "attach to a running container's streams", build: (*app).attachCommand, min: 1, max: 1},
		{name: "logs", about: "show what a container has written", build: (*app).logsCommand, min: 1, max: 1},
		{name: "inspect", about: "show all there is to know of containers, images, volumes or networks", build: (*app).inspectCommand, min: 1, max: -1},
		{name: "top", about: "list the processes of a container", build: (*app).topCommand, min: 1, max: -1, literal: true},
		{name: "port", about: "list the published ports of a container", build: (*app).portCommand, min: 1, max: 2},
		{name: "stats", about: "show what containers use: processor, memory, network, disk", build: (*app).statsCommand, max: -1},
		{name: "export", about: "write a container's file system as a tar archive", build: (*app).exportCommand, min: 1, max: 1},
		{name: "mount", about: "show a container's file system on the host", build: (*app).mountCommand, min: 1, max: -1},
		{name: "umount", about: "undo mount", build: (*app).umountCommand, min: 1, max: -1},
		{name: "load", about: "load images from a tar archive or stdin", build: (*app).loadCommand},
		{name: "save", about: "write images to a tar archive", build: (*app).saveCommand, min: 1, max: -1},
		{name: "import", about: "make an image from a tar of a root file system", build: (*app).importCommand, min: 1, max: 2},
		{name: "push", about: "upload an image to a registry", build: (*app).pushCommand, min: 1, max: 1},
		{name: "tag", about: "give an image another name", build: (*app).tagCommand, min: 2, max: 2},
		{name: "rmi", about: "remove one or more images", build: (*app).rmiCommand, min: 1, max: -1},
		{name: "history", about: "show the layers of an image", build: (*app).historyCommand, min: 1, max: 1},
		{name: "info", about: "show facts about this host and berth", build: (*app).infoCommand},
		{name: "version", about: "show the version", build: (*app).versionCommand},
		{name: "oci", about: "be an OCI runtime like runc: berth oci --help", build: (*app).ociCommand, max: -1, literal: true},
		{name: "monitor", about: "watch a container in the background", build: (*app).monitorCommand, min: 1, max: 1, hidden: true},
	}
}

// groups lists those of two.
func groups() []entry {
	return []entry{
		{name: "container", about: "manage containers", sub: containerCommands},
		{name: "image", about: "manage images", sub: imageCommands},
		{name: "volume", about: "manage volumes", sub: volumeCommands},
		{name: "network", about: "look at networks", sub: networkCommands},
		{name: "system", about: "look after the state of berth", sub: systemCommands},
		{name: "explain", about: "print what a command would do, step by step", sub: explainCommands},
	}
}

// pick takes top-level commands into a group, under these names: "ls=ps".
func pick(names string) []entry {
	var out []entry
	for name := range strings.FieldsSeq(names) {
		alias, name, renamed := strings.Cut(name, "=")
		if !renamed {
			name = alias
		}
		e := *lookup(single(), name)
		e.name = alias
		out = append(out, e)
	}
	return out
}

func containerCommands() []entry {
	return append(pick("attach create exec export inspect kill logs ls=ps pause port rename restart rm run start stats stop top unpause update wait list=ps ps"),
		entry{name: "prune", about: "remove all stopped containers", build: (*app).containerPruneCommand})
}

func lookup(list []entry, name string) *entry {
	for i := range list {
		if list[i].name == name {
			return &list[i]
		}
	}
	return nil
}

// find follows the words of args to a command. path is what the user typed:
// "berth volume ls".
func find(list []entry, args []string) (e *entry, path string, rest []string, err error) {
	path = "berth"
	for len(args) > 0 {
		if e != nil && (args[0] == "--help" || args[0] == "-h" || args[0] == "help") {
			return e, path, nil, nil
		}
		next := lookup(list, args[0])
		if next == nil {
			return nil, "", nil, unknownCommand(path, args[0], list)
		}
		e, args = next, args[1:]
		path += " " + e.name
		if e.sub == nil {
			return e, path, args, nil
		}
		list = e.sub()
	}
	return e, path, nil, nil
}
