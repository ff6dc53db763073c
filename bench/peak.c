// peak CMD ARG...: runs it and prints the largest resident set of it or one of
// its children, in KiB. A process starts with the peak of the one it was forked
// from, so this one is small.
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv) {
	if (argc < 2)
		return 2;
	pid_t pid = fork();
	if (pid == 0) {
		execvp(argv[1], argv + 1);
		_exit(127);
	}
	int st;
	struct rusage use;
	if (pid < 0 || wait4(pid, &st, 0, &use) < 0)
		return 1;
	dprintf(2, "\n%ld\n", use.ru_maxrss);
	return st != 0;
}
