/*
 * unread usersock|route|ping|udp|tcp|ring MIB: has sockets of its own until they hold so much that nobody reads; says "full", and holds them until
 * the input ends.  udp and tcp: what they have sent themselves, which comes back with the time at which it went.
 */
#include <linux/if_packet.h>
#include <linux/net_tstamp.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define LENGTH 60000
#define ROUNDS 256
#define BLOCK (1 << 20)
#define BLOCKS 8

enum kind { USERSOCK, ROUTE, PING, UDP, TCP, RING, KINDS };
static const char *const names[KINDS] = {"usersock", "route", "ping", "udp", "tcp", "ring"};

static union {
	struct nlmsghdr netlink;
	struct icmphdr ping;
	char bytes[LENGTH];
} message;

static const int most = 1 << 30, stamps = SOF_TIMESTAMPING_SOFTWARE | SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_TX_ACK;
static struct sockaddr_in here = {.sin_family = AF_INET};
static int listening;

static void checked(int result, const char *what)
{
	if (result < 0) {
		perror(what);
		exit(1);
	}
}

static int made(enum kind kind)
{
	static const int families[KINDS] = {AF_NETLINK, AF_NETLINK, AF_INET, AF_INET, AF_INET, AF_PACKET};
	static const int types[KINDS] = {SOCK_RAW, SOCK_RAW, SOCK_DGRAM, SOCK_DGRAM, SOCK_STREAM, SOCK_RAW};
	static const int protocols[KINDS] = {NETLINK_USERSOCK, NETLINK_ROUTE, IPPROTO_ICMP, 0, 0, 0x300};
	int one = socket(families[kind], types[kind], protocols[kind]);

	checked(one, "socket");
	setsockopt(one, SOL_SOCKET, SO_RCVBUF, &most, sizeof most);
	setsockopt(one, SOL_SOCKET, SO_SNDBUF, &most, sizeof most);
	return one;
}

static void address(int of, enum kind kind)
{
	struct sockaddr_nl self = {.nl_family = AF_NETLINK}, kernel = self;
	socklen_t length = sizeof self;

	if (kind > ROUTE) {
		checked(connect(of, (struct sockaddr *)&here, sizeof here), "connect");
		return;
	}
	checked(bind(of, (struct sockaddr *)&self, length), "bind");
	checked(getsockname(of, (struct sockaddr *)&self, &length), "getsockname");
	checked(connect(of, (struct sockaddr *)(kind == ROUTE ? &kernel : &self), length), "connect"); /* it sends back what it does not know */
}

static void fill(int from, enum kind kind)
{
	static char taken[1 << 16];
	int peer = -1;

	if (kind == UDP || kind == TCP)
		checked(setsockopt(from, SOL_SOCKET, SO_TIMESTAMPING, &stamps, sizeof stamps), "stamps");
	address(from, kind);
	if (kind == TCP)
		checked(peer = accept(listening, NULL, NULL), "accept");
	if (kind == PING)
		message.ping.type = ICMP_ECHO;
	else if (kind < PING)
		message.netlink = (struct nlmsghdr){.nlmsg_len = LENGTH, .nlmsg_type = 0x7fff, .nlmsg_flags = NLM_F_REQUEST};
	for (int round = 0; round < ROUNDS; round++) {
		if (send(from, &message, LENGTH, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && kind < UDP)
			break;
		while (kind == TCP && recv(peer, taken, sizeof taken, MSG_DONTWAIT) > 0)
			;
	}
	if (kind == TCP)
		close(peer);
}

static long held(int by, enum kind kind)
{
	struct tpacket_req ring = {BLOCK, BLOCKS, 2048, BLOCK / 2048 * BLOCKS};
	unsigned int memory[SK_MEMINFO_VARS] = {0};
	socklen_t length = sizeof memory;

	if (kind == RING) {
		checked(setsockopt(by, SOL_PACKET, PACKET_RX_RING, &ring, sizeof ring), "ring");
		return BLOCK * BLOCKS;
	}
	fill(by, kind);
	checked(getsockopt(by, SOL_SOCKET, SO_MEMINFO, memory, &length), "memory");
	return memory[SK_MEMINFO_RMEM_ALLOC];
}

int main(int count, char **asked)
{
	long wanted = count > 2 ? atol(asked[2]) << 20 : 0, all = 0;
	socklen_t length = sizeof here;
	enum kind kind = 0;
	char last;

	while (kind < KINDS && strcmp(names[kind], count > 1 ? asked[1] : ""))
		kind++;
	if (kind == KINDS)
		return 2;
	here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	listening = socket(AF_INET, kind == TCP ? SOCK_STREAM : SOCK_DGRAM, 0); /* what UDP sends there waits, too: its queue is a usual one */
	checked(bind(listening, (struct sockaddr *)&here, length), "bind");
	checked(getsockname(listening, (struct sockaddr *)&here, &length), "getsockname");
	if (kind == TCP)
		checked(listen(listening, 16), "listen");
	while (all < wanted) {
		long more = held(made(kind), kind);

		if (more <= 0) {
			fputs("nothing waits\n", stderr);
			return 1;
		}
		all += more;
	}
	puts("full");
	fflush(stdout);
	return read(0, &last, 1) < 0;
}
