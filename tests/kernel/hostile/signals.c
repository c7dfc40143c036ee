/* Sends itself signals that it does not take, until the kernel keeps no more, and says how many; keeps them until the input ends. */
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

int main(void)
{
	sigset_t held;
	unsigned long count = 0;

	sigemptyset(&held);
	sigaddset(&held, SIGRTMIN);
	sigprocmask(SIG_BLOCK, &held, NULL);
	while (count < 1000000 && sigqueue(getpid(), SIGRTMIN, (union sigval){0}) == 0)
		count++;
	printf("%lu\n", count);
	fflush(stdout);
	while (getchar() != EOF)
		;
	return 0;
}
