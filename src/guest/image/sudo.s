# The `sudo` that the account `endpoint` finds until the machine is somebody's: it runs the set-up script as root, and nothing
# else for anybody. The real one loads a dozen libraries and its rules first, which took an emulated guest longer than all that
# the script does.
#
# The script gets its arguments and where its output goes, and neither an environment nor groups. One run of it waits for the
# other: the lock is on a directory that only root opens, and is let go by the kernel when the last process of a run is gone,
# however it went.
#
#   as --64 sudo.s -o sudo.o && objcopy -O binary -j .text sudo.o sudo.bin
#
# `super::layout::SUDO` has its bytes; a test assembles them again.

.set base, 0x400000
.set endpoint, 900
.set lock_exclusive, 2
.set open, 2
.set execve, 59
.set exit, 60
.set flock, 73
.set getuid, 102
.set setgroups, 116
.set setresuid, 117
.set setresgid, 119

# A header of an ELF program, with one segment: all of this file, to be read and run.
header:
  .byte 0x7f
  .ascii "ELF"
  .byte 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0
  .word 2, 62
  .long 1
  .quad base + start - header, segment - header, 0
  .long 0
  .word 64, 56, 1, 0, 0, 0
segment:
  .long 1, 5
  .quad 0, base, base, end - header, end - header, 0x1000

start:
  movl $getuid, %eax
  syscall
  cmpl $endpoint, %eax
  jne refuse
  # The stack: how many arguments there are, and where each of them is.
  cmpq $2, (%rsp)
  jb refuse
  leaq 16(%rsp), %rbx
  movq (%rbx), %rsi
  leaq script(%rip), %rdi
  movl $(lock - script), %ecx
  repe cmpsb
  jne refuse

  # Each takes zeros; an answer that is not zero is a refusal.
  movl $setgroups, %ebp
  call root
  movl $setresgid, %ebp
  call root
  movl $setresuid, %ebp
  call root

  # Where it could not be opened, its number is none to be locked.
  leaq lock(%rip), %rdi
  xorl %esi, %esi
  movl $open, %eax
  syscall
  movl %eax, %edi
  movl $lock_exclusive, %esi
  movl $flock, %eax
  syscall
  testl %eax, %eax
  jnz refuse

  leaq script(%rip), %rdi
  movq %rbx, %rsi
  xorl %edx, %edx
  movl $execve, %eax
  syscall
refuse:
  movl $1, %edi
  movl $exit, %eax
  syscall

root:
  xorl %edi, %edi
  xorl %esi, %esi
  xorl %edx, %edx
  movl %ebp, %eax
  syscall
  testl %eax, %eax
  jnz refuse
  ret

script:
  .asciz "/bin/anweddol_container_setup.sh"
lock:
  .asciz "/etc/new"
end:
