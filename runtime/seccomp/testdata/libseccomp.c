/* Compiles profiles with libseccomp, for TestLibseccomp. Standard input has a
 * command a line, answers go to standard output.
 *
 *	number ARCH NAME       the number (4 bytes), as a name resolves
 *	new DEFAULT OPTIMIZE   begin a filter; its architectures follow
 *	arch ARCH
 *	rule ACTION NAME [ARG OP A B]...
 *	end                    -errno of what failed first or the length (4 bytes), the program
 */
#define _GNU_SOURCE
#include <seccomp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

static scmp_filter_ctx ctx;
static int rc, archs;

static void answer(int32_t n) { fwrite(&n, sizeof n, 1, stdout); }

static void note(int r) { if (r < 0 && rc == 0) rc = r; }

static void arch(uint32_t token)
{
	/* A filter has the native architecture at first. */
	if (archs++ == 0 && token != seccomp_arch_native())
		note(seccomp_arch_remove(ctx, SCMP_ARCH_NATIVE));
	if (seccomp_arch_exist(ctx, token) < 0)
		note(seccomp_arch_add(ctx, token));
}

static void rule(char *s)
{
	struct scmp_arg_cmp arg[6];
	unsigned n = 0, index, op;
	uint32_t action;
	unsigned long long a, b;
	char name[64];
	int used;

	if (sscanf(s, "%x %63s%n", &action, name, &used) != 2)
		abort();
	for (s += used; sscanf(s, " %u %u %llx %llx%n", &index, &op, &a, &b, &used) == 4; s += used)
		arg[n++] = SCMP_CMP64(index, (enum scmp_compare)op, a, b);
	int nr = seccomp_syscall_resolve_name(name);
	if (nr != __NR_SCMP_ERROR)
		note(seccomp_rule_add_array(ctx, action, nr, n, arg));
}

/* Some profiles send libseccomp round in circles: then die by SIGVTALRM. */
static void limit(int seconds)
{
	struct itimerval t = { .it_value.tv_sec = seconds };

	setitimer(ITIMER_VIRTUAL, &t, NULL);
}

static void end(void)
{
	static char program[1 << 20];
	int fd = memfd_create("program", 0);

	if (rc == 0)
		note(seccomp_export_bpf(ctx, fd));
	limit(0);
	ssize_t n = pread(fd, program, sizeof program, 0);
	close(fd);
	answer(rc < 0 ? rc : n);
	if (rc == 0)
		fwrite(program, n, 1, stdout);
	fflush(stdout);
	seccomp_release(ctx);
}

int main(void)
{
	static char line[1 << 16];
	uint32_t token;
	unsigned optimize;
	char name[64];

	while (fgets(line, sizeof line, stdin)) {
		if (sscanf(line, "number %x %63s", &token, name) == 2) {
			answer(seccomp_syscall_resolve_name_arch(token, name));
			fflush(stdout);
		} else if (sscanf(line, "new %x %u", &token, &optimize) == 2) {
			limit(1);
			rc = archs = 0;
			ctx = seccomp_init(token);
			note(seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, optimize));
		} else if (sscanf(line, "arch %x", &token) == 1) {
			arch(token);
		} else if (strncmp(line, "rule ", 5) == 0) {
			rule(line + 5);
		} else if (strcmp(line, "end\n") == 0) {
			end();
		} else {
			abort();
		}
	}
	return 0;
}
