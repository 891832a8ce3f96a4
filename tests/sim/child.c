/* SPDX-License-Identifier: MIT */

/* See child.h. */

#include "sim/child.h"

#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/cleanup.h"

void child_begin(pid_t parent, int death_signal)
{
        static const int signals[] = { SIGPIPE, SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGCHLD };
        sigset_t none;

        for (size_t i = 0; i < ELEMENTSOF(signals); i++)
                (void)signal(signals[i], SIG_DFL);
        (void)sigemptyset(&none);
        (void)sigprocmask(SIG_SETMASK, &none, NULL);
        (void)prctl(PR_SET_PDEATHSIG, death_signal);
        if (getppid() != parent)
                _exit(1);
}
