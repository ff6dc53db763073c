// The floor of the benchmark: the kernel work of `berth run --network none` and
// nothing else. floor ROOT CMD: namespaces, mounts, pivot_root, execve.
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

static void mnt(const char *src, const char *dst, const char *type, unsigned long flags, const char *data) {
	mkdir(dst, 0755);
	if (mount(src, dst, type, flags, data))
		err(1, "mount %s", dst);
}

static void hide(const char *path, int dir) {
	if (dir)
		mount("tmpfs", path, "tmpfs", MS_RDONLY, "nr_blocks=1");
	else
		mount("/dev/null", path, NULL, MS_BIND, NULL);
}

int main(int argc, char **argv) {
	if (argc < 3)
		errx(1, "usage: floor ROOT CMD");
	struct { unsigned long long flags, pidfd, ct, pt, sig, st, ss, tls; } a = {
		.flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS, .sig = SIGCHLD };
	pid_t pid = syscall(SYS_clone3, &a, sizeof a);
	if (pid < 0)
		err(1, "clone3");
	if (pid == 0) {
		setsid();
		mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
		unshare(CLONE_NEWCGROUP);
		mnt(argv[1], argv[1], NULL, MS_BIND | MS_REC, NULL);
		if (chdir(argv[1]))
			err(1, "chdir");
		unsigned long f = MS_NOSUID | MS_NODEV | MS_NOEXEC;
		mnt("proc", "proc", "proc", f, NULL);
		mnt("tmpfs", "dev", "tmpfs", MS_NOSUID, "mode=755");
		mnt("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666");
		mnt("sysfs", "sys", "sysfs", f | MS_RDONLY, NULL);
		mnt("cgroup2", "sys/fs/cgroup", "cgroup2", f | MS_RDONLY, NULL);
		mnt("mqueue", "dev/mqueue", "mqueue", f, NULL);
		mnt("tmpfs", "dev/shm", "tmpfs", f, NULL);
		const char *dev[] = {"null", "zero", "full", "random", "urandom"};
		int minor[] = {3, 5, 7, 8, 9};
		for (int i = 0; i < 5; i++) {
			char p[64];
			snprintf(p, sizeof p, "dev/%s", dev[i]);
			mknod(p, S_IFCHR | 0666, makedev(1, minor[i]));
		}
		hide("proc/kcore", 0), hide("proc/keys", 0), hide("proc/timer_list", 0), hide("proc/interrupts", 0);
		hide("proc/acpi", 1), hide("sys/firmware", 1);
		const char *ro[] = {"proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"};
		for (int i = 0; i < 5; i++) {
			mount(ro[i], ro[i], NULL, MS_BIND | MS_REC, NULL);
			mount(NULL, ro[i], NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL);
		}
		sethostname("floor", 5);
		if (syscall(SYS_pivot_root, ".", ".") || umount2(".", MNT_DETACH) || chdir("/"))
			err(1, "pivot_root");
		execv(argv[2], argv + 2);
		err(127, "%s", argv[2]);
	}
	int st;
	waitpid(pid, &st, 0);
	return WIFEXITED(st) ? WEXITSTATUS(st) : 128 + WTERMSIG(st);
}
