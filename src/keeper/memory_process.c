/* SPDX-License-Identifier: Apache-2.0 */
#include "keeper/memory_process.h"

#include "base/cleanup.h"
#include "keeper/keeper.h"
#include "keeper/memory_holder.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct memory_process {
	struct keeper *keeper;
	const struct memory_process_ops *ops; /* NULL: it was ended */
	pid_t pid;
	int pidfd, channel;
	struct loop_source *pidfd_source, *channel_source;
};

static void process_free(struct memory_process *process)
{
	loop_remove(process->pidfd_source);
	loop_remove(process->channel_source);
	close_fd(&process->pidfd);
	close_fd(&process->channel);
	free(process);
}

static void process_on_death(void *data, uint32_t events)
{
	struct memory_process *process = data;
	const struct memory_process_ops *ops = process->ops;
	struct keeper *k = process->keeper;
	siginfo_t info = {0};
	char how[64];

	if (waitid(P_PIDFD, (id_t)process->pidfd, &info, WEXITED | WNOHANG) < 0 || !info.si_pid)
		return;
	if (info.si_code == CLD_EXITED)
		snprintf(how, sizeof(how), "exited with status %d", info.si_status);
	else
		snprintf(how, sizeof(how), "was killed by signal %d (SIG%s)", info.si_status,
			sigabbrev_np(info.si_status) ?: "?");
	process_free(process);
	if (ops)
		ops->died(k, how);
}

static void process_on_message(void *data, uint32_t events)
{
	struct memory_process *process = data;
	struct packet p;

	int r = packet_recv(process->channel, &memory_table, MEMORY_FROM_HOLDER, &p);
	if (r == -EAGAIN)
		return;
	if (r != 1) { /* its death says more */
		loop_remove(process->channel_source);
		process->channel_source = NULL;
		return;
	}
	struct memory_report *report = (void *)p.payload;
	packet_text(report->text, sizeof(report->text));
	process->ops->report(process->keeper, p.type, report);
}

static int process_watch(struct memory_process *process)
{
	struct loop *loop = process->keeper->loop;

	process->pidfd = (int)syscall(SYS_pidfd_open, process->pid, 0);
	if (process->pidfd < 0)
		return -errno;
	int r = loop_add_fd(
		loop, process->pidfd, EPOLLIN, process_on_death, process, &process->pidfd_source);
	if (r == 0)
		r = loop_add_fd(loop, process->channel, EPOLLIN, process_on_message, process,
			&process->channel_source);
	return r;
}

static int process_fork(struct memory_process *process)
{
	pid_t keeper_pid = getpid();
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	process->channel = pair[0];
	cleanup_close int theirs = pair[1];
	if (fcntl(process->channel, F_SETFL, O_NONBLOCK) < 0) /* only ours never blocks */
		return -errno;
	process->pid = fork();
	if (process->pid < 0)
		return -errno;
	if (process->pid == 0) {
		if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != keeper_pid)
			_exit(1);
		memory_holder_main(theirs);
	}
	return 0;
}

int memory_process_start(
	struct keeper *k, const struct memory_process_ops *ops, struct memory_process **ret)
{
	struct memory_process *process = calloc(1, sizeof(*process));

	if (!process)
		return -ENOMEM;
	*process = (struct memory_process){.keeper = k, .ops = ops, .pidfd = -1, .channel = -1};
	int r = process_fork(process);
	if (r == 0)
		r = process_watch(process);
	if (r < 0) {
		if (process->pid > 0) {
			kill(process->pid, SIGKILL); /* it holds nothing yet, so this is short */
			waitpid(process->pid, NULL, 0);
		}
		process_free(process);
		return r;
	}
	*ret = process;
	return 0;
}

int memory_process_send(struct memory_process *process, uint32_t type, const void *payload, int fd)
{
	return packet_send(process->channel, &memory_table, type, payload, fd);
}

void memory_process_end(struct memory_process *process)
{
	if (!process)
		return;
	process->ops = NULL;
	loop_remove(process->channel_source);
	process->channel_source = NULL;
	close_fd(&process->channel);
	kill(process->pid, SIGKILL); /* not waited for yet, so still its pid */
}
