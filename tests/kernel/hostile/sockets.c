/*
 * sockets udp|tcp N: sends to N sockets of its own until each takes no more, which nobody reads; says "full", and holds them until the input ends.
 */
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ROUNDS 64

static char words[60000];

static int bound(int type, struct sockaddr_in *at)
{
	socklen_t length = sizeof *at;
	int made = socket(AF_INET, type, 0), most = 1 << 30;

	*at = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	setsockopt(made, SOL_SOCKET, SO_RCVBUF, &most, sizeof most);
	if (made < 0 || bind(made, (struct sockaddr *)at, length) || getsockname(made, (struct sockaddr *)at, &length))
		exit(1);
	return made;
}

int main(int count, char **asked)
{
	int tcp = count > 1 && !strcmp(asked[1], "tcp"), most = 1 << 30;
	struct sockaddr_in at;
	int listening = tcp ? bound(SOCK_STREAM, &at) : -1;
	char last;

	if (tcp)
		listen(listening, 16);
	for (int left = count > 2 ? atoi(asked[2]) : 0; left; left--) {
		int sender = socket(AF_INET, tcp ? SOCK_STREAM : SOCK_DGRAM, 0);

		if (!tcp)
			bound(SOCK_DGRAM, &at);
		setsockopt(sender, SOL_SOCKET, SO_SNDBUF, &most, sizeof most);
		if (connect(sender, (struct sockaddr *)&at, sizeof at) || (tcp && accept(listening, NULL, NULL) < 0))
			break;
		for (int round = 0; round < ROUNDS && send(sender, words, sizeof words, MSG_DONTWAIT) > 0; round++)
			;
	}
	puts("full");
	fflush(stdout);
	return read(0, &last, 1) < 0;
}
