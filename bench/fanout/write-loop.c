/* The baseline in C: write() of ready bytes to as many TCP sockets. Compiled by the bench when the machine has a C compiler; see plain-protocol.ts.
 *
 * write-loop AGENTS: prints "port P", accepts the agents (each says its number, 4 bytes), prints "ready"; then for each
 * "replay COUNT" on stdin, followed by COUNT lines "AT_US BYTES N RECIPIENT...", sends them at their times and prints "cpu MICROSECONDS". */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct message {
  double at_us;
  unsigned bytes, count;
  unsigned *recipients;
};

static double now_us(clockid_t clock) {
  struct timespec now;
  clock_gettime(clock, &now);
  return now.tv_sec * 1e6 + now.tv_nsec / 1e3;
}

static double cpu_us(void) {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_utime.tv_sec * 1e6 + usage.ru_utime.tv_usec + usage.ru_stime.tv_sec * 1e6 + usage.ru_stime.tv_usec;
}

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static void read_messages(struct message *messages, unsigned count) {
  for (unsigned i = 0; i < count; i++) {
    struct message *m = &messages[i];
    if (scanf("%lf %u %u", &m->at_us, &m->bytes, &m->count) != 3) exit(1);
    m->recipients = malloc(m->count * sizeof(unsigned));
    for (unsigned j = 0; j < m->count; j++)
      if (scanf("%u", &m->recipients[j]) != 1) exit(1);
  }
}

static void send_message(const struct message *m, const int *sockets) {
  unsigned char *bytes = calloc(1, m->bytes);
  uint32_t length = htonl(m->bytes);
  double stamp = now_us(CLOCK_REALTIME);
  uint64_t bits;
  memcpy(&bits, &stamp, sizeof bits);
  bits = __builtin_bswap64(bits); /* the bench runs on little-endian machines */
  memcpy(bytes, &length, sizeof length);
  memcpy(bytes + 4, &bits, sizeof bits);
  for (unsigned i = 0; i < m->count; i++)
    if (write(sockets[m->recipients[i]], bytes, m->bytes) != (ssize_t)m->bytes) fail("write");
  free(bytes);
}

int main(int argc, char **argv) {
  unsigned agents = argc > 1 ? atoi(argv[1]) : 0;
  int *sockets = calloc(agents, sizeof(int));
  int listener = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof address;
  if (listener < 0 || bind(listener, (struct sockaddr *)&address, size) || listen(listener, 511)) fail("listen");
  getsockname(listener, (struct sockaddr *)&address, &size);
  printf("port %u\n", ntohs(address.sin_port));
  fflush(stdout);
  for (unsigned i = 0; i < agents; i++) {
    int peer = accept(listener, NULL, NULL);
    uint32_t index;
    if (peer < 0 || read(peer, &index, sizeof index) != sizeof index || ntohl(index) >= agents) fail("accept");
    setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    sockets[ntohl(index)] = peer;
  }
  printf("ready\n");
  fflush(stdout);
  unsigned count;
  while (scanf(" replay %u", &count) == 1) {
    struct message *messages = calloc(count, sizeof *messages);
    read_messages(messages, count);
    double cpu = cpu_us(), began = now_us(CLOCK_MONOTONIC);
    for (unsigned i = 0; i < count; i++) {
      double wait = messages[i].at_us - (now_us(CLOCK_MONOTONIC) - began);
      if (wait > 0) usleep((useconds_t)wait);
      send_message(&messages[i], sockets);
    }
    printf("cpu %.0f\n", cpu_us() - cpu);
    fflush(stdout);
  }
  return 0;
}
