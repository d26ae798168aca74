//! The program of the built-in `hello-world` image: one write, one exit, no libc.
//!
//! `build.rs` compiles this file by itself; it is no module of the crate.
#![no_std]
#![no_main]

const GREETING: &str = "
Hello from Gantry!
This text comes out of a container, so the whole road works.

What just happened:
 1. The client asked the engine for a container of the image \"hello-world\".
 2. The engine found the image (in its store, in a registry, or built into its own binary).
 3. It laid a writable layer over the image, and gave the container its own processes,
    network, mounts and limits.
 4. A small supervisor started /hello inside. What it writes goes along one socket
    to the engine, and from there to you.

What to try next:
 A shell in a Debian image from a registry:
   gantry run -it debian bash
 A shell in this machine's own files, where nothing you change is kept:
   gantry run -it --rootfs /:O bash
 The containers you have made so far:
   gantry ps -a

";

/// Writes the greeting, also when the kernel takes it in pieces.
#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    let mut rest = GREETING.as_bytes();
    while !rest.is_empty() {
        // SAFETY: the pointer and the length are those of a slice that lives as long as the program.
        let written = unsafe { call(WRITE, 1, rest.as_ptr() as usize, rest.len()) };
        match usize::try_from(written) {
            Ok(count) if count > 0 => rest = rest.get(count..).unwrap_or_default(),
            _ if written == INTERRUPTED => {}
            _ => exit(1),
        }
    }
    exit(0)
}

fn exit(code: usize) -> ! {
    loop {
        // SAFETY: exit_group takes no pointer and does not come back.
        unsafe { call(EXIT_GROUP, code, 0, 0) };
    }
}

/// `-EINTR`
const INTERRUPTED: isize = -4;

#[cfg(target_arch = "x86_64")]
const WRITE: usize = 1;
#[cfg(target_arch = "x86_64")]
const EXIT_GROUP: usize = 231;
#[cfg(target_arch = "aarch64")]
const WRITE: usize = 64;
#[cfg(target_arch = "aarch64")]
const EXIT_GROUP: usize = 94;

/// A system call with three arguments.
///
/// # Safety
/// The arguments must be what the call wants.
#[cfg(target_arch = "x86_64")]
unsafe fn call(number: usize, a: usize, b: usize, c: usize) -> isize {
    let result;
    // SAFETY: the kernel changes rax, rcx and r11 only; the caller answers for the arguments.
    unsafe {
        core::arch::asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") a,
            in("rsi") b,
            in("rdx") c,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// A system call with three arguments.
///
/// # Safety
/// The arguments must be what the call wants.
#[cfg(target_arch = "aarch64")]
unsafe fn call(number: usize, a: usize, b: usize, c: usize) -> isize {
    let result;
    // SAFETY: the kernel changes x0 only; the caller answers for the arguments.
    unsafe {
        core::arch::asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") a as isize => result,
            in("x1") b,
            in("x2") c,
            options(nostack),
        );
    }
    result
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    exit(2)
}
